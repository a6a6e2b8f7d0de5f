//! Keeps a running pod's volumes up to date: when a config map or secret changes, when the pod itself is labelled anew
//! and a volume tells of that, and when a token wants renewal.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use k8s_openapi::api::core::v1::{Pod, Volume};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config_objects::ConfigReference;
use crate::node::Node;

/// After a failed refresh.
const RETRY: Duration = Duration::from_secs(10);

/// Runs as long as the pod does; returns at once for pods without such volumes. `forms` has the pod as it is.
pub(crate) async fn keep(node: Arc<Node>, mut forms: watch::Receiver<Arc<Pod>>) {
    let pod = Arc::clone(&forms.borrow());
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let references = references(&pod);
    let tells_of_pod = tells_of_pod(&pod);
    if references.is_empty() && !tells_of_pod && node.tokens.next_renewal(&uid).is_none() {
        return;
    }
    // The pod may have changed since the volumes were made.
    forms.mark_changed();
    let watched: Vec<_> = references
        .iter()
        .map(|r| node.config_objects.watch(&node.scope, &node.client, r))
        .collect();
    let mut changes: Vec<_> = watched.iter().map(|w| w.informer.subscribe()).collect();
    // What stands when watching begins may be newer than what was read: the first refresh is for that.
    let mut retry_at = None;
    loop {
        let renewal = node.tokens.next_renewal(&uid).map(|at| {
            let left = u64::try_from(at - node.now()).unwrap_or(0);
            Instant::now() + Duration::from_millis(left)
        });
        let due = due(renewal, retry_at);
        tokio::select! {
            () = any_change(&mut changes) => {}
            () = other_form(&mut forms), if tells_of_pod => {}
            () = sleep_until(due) => {}
        }
        let pod = Arc::clone(&forms.borrow_and_update());
        retry_at = match super::refresh(&node, &pod).await {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!(
                    pod = uid,
                    error = crate::pod::chain(&error),
                    "volumes not refreshed; trying again"
                );
                Some(Instant::now() + RETRY)
            }
        };
    }
}

/// When to look again without having been told of a change. After a failure the retry alone counts: a renewal that is due
/// stays so until it succeeds, and waiting for it would not be waiting.
fn due(renewal: Option<Instant>, retry_at: Option<Instant>) -> Option<Instant> {
    retry_at.or(renewal)
}

async fn other_form(forms: &mut watch::Receiver<Arc<Pod>>) {
    if forms.changed().await.is_err() {
        // Who tells of them ends this task, too.
        std::future::pending::<()>().await;
    }
}

/// Whether a volume shows what the pod says of itself.
fn tells_of_pod(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.into_iter().any(|volume| {
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        volume.downward_api.is_some() || sources.into_iter().any(|source| source.downward_api.is_some())
    })
}

async fn any_change(changes: &mut [cloudeck_client::Subscription]) {
    if changes.is_empty() {
        return std::future::pending().await;
    }
    let waiting = changes
        .iter_mut()
        .map(|subscription| Box::pin(subscription.next()));
    select_all(waiting).await;
    // Further changes of the same moment are covered by the same refresh.
    for subscription in changes {
        while subscription.try_next().is_some() {}
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The objects that the pod's volumes are made of.
fn references(pod: &Pod) -> HashSet<ConfigReference> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let reference = |resource, name: &str| ConfigReference {
        resource,
        namespace: namespace.clone(),
        name: name.to_owned(),
    };
    let of_volume = |volume: &Volume| {
        let mut found = Vec::new();
        found.extend(volume.config_map.iter().map(|s| reference("configmaps", &s.name)));
        found.extend(
            volume
                .secret
                .iter()
                .filter_map(|s| s.secret_name.as_deref())
                .map(|name| reference("secrets", name)),
        );
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            found.extend(source.config_map.iter().map(|s| reference("configmaps", &s.name)));
            found.extend(source.secret.iter().map(|s| reference("secrets", &s.name)));
        }
        found
    };
    pod.spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .flat_map(of_volume)
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        ConfigMapProjection, PodSpec, ProjectedVolumeSource, SecretVolumeSource, VolumeProjection,
    };

    use super::*;

    #[test]
    fn after_a_failure_a_renewal_that_is_due_is_not_tried_before_the_retry() {
        let now = Instant::now();
        let later = now + RETRY;
        assert_eq!(due(Some(now), Some(later)), Some(later));
        assert_eq!(due(Some(now), None), Some(now));
        assert_eq!(due(None, None), None);
    }

    #[test]
    fn every_source_is_found_once() {
        let map = ConfigMapProjection {
            name: "kube-root-ca.crt".into(),
            ..ConfigMapProjection::default()
        };
        let projected = ProjectedVolumeSource {
            sources: Some(vec![VolumeProjection {
                config_map: Some(map),
                ..VolumeProjection::default()
            }]),
            ..ProjectedVolumeSource::default()
        };
        let secret = SecretVolumeSource {
            secret_name: Some("s".into()),
            ..SecretVolumeSource::default()
        };
        let volumes = vec![
            Volume {
                name: "a".into(),
                projected: Some(projected.clone()),
                ..Volume::default()
            },
            Volume {
                name: "b".into(),
                projected: Some(projected),
                ..Volume::default()
            },
            Volume {
                name: "c".into(),
                secret: Some(secret),
                ..Volume::default()
            },
        ];
        let pod = Pod {
            spec: Some(PodSpec {
                volumes: Some(volumes),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        let mut names: Vec<String> = references(&pod)
            .into_iter()
            .map(|r| format!("{}/{}", r.resource, r.name))
            .collect();
        names.sort();
        assert_eq!(names, ["configmaps/kube-root-ca.crt", "secrets/s"]);
    }
}
