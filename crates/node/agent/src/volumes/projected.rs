//! Projected volumes: several sources in one directory, service-account tokens among them.

use std::sync::Arc;

use cloudeck_machinery::{GroupVersionResource, Status, json, value};
use k8s_openapi::api::core::v1::{
    Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};

use super::payload::{DEFAULT_MODE, File, Payload, Selection, add_config_map, add_secret};
use super::{SetUpError, downward};
use crate::node::Node;
use crate::pod::decide::all_containers;

/// Upstream's default life of a projected token.
const DEFAULT_EXPIRATION_SECONDS: i64 = 3600;

pub(super) async fn payload(
    node: &Arc<Node>,
    pod: &Pod,
    source: &ProjectedVolumeSource,
) -> Result<Payload, SetUpError> {
    let mut payload = Payload::default();
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    for projection in source.sources.iter().flatten() {
        add(node, pod, projection, mode, &mut payload).await?;
    }
    Ok(payload)
}

async fn add(
    node: &Arc<Node>,
    pod: &Pod,
    projection: &VolumeProjection,
    mode: i32,
    payload: &mut Payload,
) -> Result<(), SetUpError> {
    let selection = |name, items, optional| Selection {
        name,
        items,
        mode,
        optional: optional == Some(true),
    };
    if let Some(source) = &projection.config_map {
        let items = source.items.as_deref().unwrap_or_default();
        let wanted = selection(source.name.as_str(), items, source.optional);
        add_config_map(node, pod, wanted, payload).await?;
    }
    if let Some(source) = &projection.secret {
        let items = source.items.as_deref().unwrap_or_default();
        let wanted = selection(source.name.as_str(), items, source.optional);
        add_secret(node, pod, wanted, payload).await?;
    }
    if let Some(source) = &projection.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        payload
            .files
            .extend(downward::payload(node, pod, items, Some(mode))?.files);
    }
    if let Some(source) = &projection.service_account_token {
        let token = node.tokens.get(node, pod, source).await?;
        payload
            .files
            .insert(source.path.clone(), token_file(pod, token, mode));
    }
    if projection.cluster_trust_bundle.is_some() {
        return Err(SetUpError::Unsupported {
            kind: "projected clusterTrustBundle",
        });
    }
    Ok(())
}

/// A token's file: for the pod's one user alone where all its containers have the same, or for the pod's group (whose
/// right to read comes with the volume); else of the given mode.
///
/// Source: `pkg/volume/projected`, `pkg/volume/util` (`FsUserFrom`).
fn token_file(pod: &Pod, token: String, mode: i32) -> File {
    let owner = only_user(pod);
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let has_group = shared.and_then(|s| s.fs_group).is_some();
    let mode = if owner.is_some() || has_group { 0o600 } else { mode };
    File {
        content: token.into_bytes(),
        mode: mode as u32 & 0o777,
        owner,
    }
}

/// The user that all containers of the pod run as, if the pod says so.
fn only_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let shared = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = all_containers(spec).map(|container| {
        let own = container.security_context.as_ref().and_then(|s| s.run_as_user);
        own.or(shared)
    });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}

/// Asks the API for a token bound to the pod.
pub(crate) async fn request_token(
    node: &Node,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
) -> Result<(String, i64), SetUpError> {
    let meta = &pod.metadata;
    let (namespace, name) = (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .unwrap_or("default");
    let seconds = source.expiration_seconds.unwrap_or(DEFAULT_EXPIRATION_SECONDS);
    let mut request = value!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "spec": {
            "audiences": [], "expirationSeconds": (seconds),
            "boundObjectRef": {
                "kind": "Pod", "apiVersion": "v1", "name": (name),
                "uid": (meta.uid.as_deref().unwrap_or_default())
            }
        }
    });
    if let Some(audience) = source.audience.as_deref().filter(|a| !a.is_empty()) {
        request.set_at(&["spec", "audiences"], vec![audience.into()]);
    }
    let accounts = GroupVersionResource::new("", "v1", "serviceaccounts");
    let answer = node
        .client
        .create_subresource(&accounts, namespace, account, "token", &request)
        .await;
    let bytes = answer
        .and_then(cloudeck_client::Response::into_json)
        .map_err(SetUpError::Api)?;
    let tree = json::parse(&bytes).map_err(|e| SetUpError::Api(Status::internal(e)))?;
    let token = tree.str_at(&["status", "token"]).unwrap_or_default().to_owned();
    Ok((token, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(spec: serde_json::Value) -> (u32, Option<u32>) {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": spec})).unwrap();
        let file = token_file(&pod, "t".into(), 0o644);
        (file.mode, file.owner)
    }

    #[test]
    fn a_token_is_its_users_alone_where_there_is_one_user() {
        let containers = |users: &[Option<i64>]| -> serde_json::Value {
            let with = |user: &Option<i64>| match user {
                Some(user) => serde_json::json!({"name": "c", "securityContext": {"runAsUser": user}}),
                None => serde_json::json!({"name": "c"}),
            };
            users.iter().map(with).collect()
        };
        let spec = |users: &[Option<i64>], shared: serde_json::Value| {
            file(serde_json::json!({"containers": containers(users), "securityContext": shared}))
        };
        let none = serde_json::json!({});
        assert_eq!(spec(&[None], none.clone()), (0o644, None));
        assert_eq!(spec(&[Some(7), Some(7)], none.clone()), (0o600, Some(7)));
        assert_eq!(spec(&[Some(7), Some(8)], none.clone()), (0o644, None));
        assert_eq!(spec(&[Some(7), None], none), (0o644, None));
        let shared = serde_json::json!({"runAsUser": 7});
        assert_eq!(spec(&[Some(7), None], shared), (0o600, Some(7)));
        let group = serde_json::json!({"fsGroup": 5});
        assert_eq!(spec(&[None], group), (0o600, None));
    }
}
