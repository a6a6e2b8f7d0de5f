//! Projected volumes: several sources in one directory, service-account tokens among them.

use std::sync::Arc;

use cloudeck_machinery::{GroupVersionResource, Status, json, value};
use k8s_openapi::api::core::v1::{
    Pod, ProjectedVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};

use super::payload::{DEFAULT_MODE, Payload, add_config_map, add_secret};
use super::{SetUpError, downward};
use crate::node::Node;

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
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(source) = &projection.config_map {
        let items = source.items.as_deref().unwrap_or_default();
        add_config_map(
            node,
            namespace,
            &source.name,
            items,
            mode,
            source.optional == Some(true),
            payload,
        )
        .await?;
    }
    if let Some(source) = &projection.secret {
        let items = source.items.as_deref().unwrap_or_default();
        add_secret(
            node,
            namespace,
            &source.name,
            items,
            mode,
            source.optional == Some(true),
            payload,
        )
        .await?;
    }
    if let Some(source) = &projection.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        payload
            .files
            .extend(downward::payload(node, pod, items, Some(mode))?.files);
    }
    if let Some(source) = &projection.service_account_token {
        let token = node.tokens.get(node, pod, source).await?;
        payload.add(&source.path, token.into_bytes(), token_mode(pod, mode));
    }
    if projection.cluster_trust_bundle.is_some() {
        return Err(SetUpError::Unsupported {
            kind: "projected clusterTrustBundle",
        });
    }
    Ok(())
}

/// A token is for its pod's user alone: readable by the group only where the pod has one, by all where users differ.
///
/// Source: `pkg/volume/projected`: 0600 with one user for all containers, 0640 with fsGroup, else the given mode.
fn token_mode(pod: &Pod, mode: i32) -> i32 {
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    if shared.and_then(|s| s.fs_group).is_some() {
        0o640
    } else {
        mode
    }
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
