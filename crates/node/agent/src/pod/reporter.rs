//! Sends a pod's status to the API: the latest only, in order, again until it is taken.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_machinery::{GroupVersionResource, Reason, json, value};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{oneshot, watch};

use crate::node::Node;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What shall stand in the API.
#[derive(Debug, Clone, Default, PartialEq)]
struct Wanted {
    status: Option<PodStatus>,
    delete: bool,
}

/// Handle of the reporting task.
pub(super) struct Reporter {
    wanted: watch::Sender<Wanted>,
    done: oneshot::Receiver<()>,
}

impl Reporter {
    pub(super) fn start(node: &Arc<Node>, pod: &Pod) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        let (finished, done) = oneshot::channel();
        let meta = &pod.metadata;
        let sender = Sender {
            node: Arc::clone(node),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            sent: pod.status.clone(),
        };
        node.scope.spawn_until_shutdown("pod status", async move {
            sender.run(receiver).await;
            // Nobody waits when the worker itself was stopped.
            let _ = finished.send(());
        });
        Self { wanted, done }
    }

    /// Asks for this status to be in the API. Returns at once.
    pub(super) fn publish(&self, status: PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.status.as_ref() != Some(&status);
            wanted.status = Some(status);
            changed
        });
    }

    /// Asks for the object to be deleted once its last status is in the API.
    pub(super) fn delete_object(&self) {
        self.wanted.send_modify(|wanted| wanted.delete = true);
    }

    /// Waits until everything asked for has been done.
    pub(super) async fn finish(self) {
        drop(self.wanted);
        // An error means that the task ended without a word, at shutdown.
        let _ = self.done.await;
    }
}

struct Sender {
    node: Arc<Node>,
    namespace: String,
    name: String,
    uid: String,
    sent: Option<PodStatus>,
}

impl Sender {
    async fn run(mut self, mut wanted: watch::Receiver<Wanted>) {
        let mut retry = FIRST_RETRY;
        loop {
            let now = wanted.borrow_and_update().clone();
            match self.bring_about(&now).await {
                Ok(()) if now.delete => return,
                Ok(()) => {
                    retry = FIRST_RETRY;
                    if wanted.changed().await.is_err() {
                        return;
                    }
                }
                Err(status) if matches!(status.reason, Reason::NotFound | Reason::Conflict) => {
                    // Gone, or another pod of the same name: nothing of this one is left to report.
                    if now.delete || wanted.changed().await.is_err() {
                        return;
                    }
                }
                Err(status) => {
                    tracing::debug!(namespace = self.namespace, name = self.name, error = %status, "pod status not taken");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    async fn bring_about(&mut self, wanted: &Wanted) -> Result<(), cloudeck_machinery::Status> {
        let pods = GroupVersionResource::new("", "v1", "pods");
        if let Some(status) = wanted
            .status
            .as_ref()
            .filter(|status| self.sent.as_ref() != Some(status))
        {
            let tree = json::parse(&cloudeck_objects::pod_status_json(status))
                .map_err(cloudeck_machinery::Status::internal)?;
            let patch = value!({"metadata": {"uid": (self.uid.as_str())}, "status": (tree)});
            self.node
                .client
                .merge_patch(&pods, &self.namespace, &self.name, "status", &patch)
                .await?;
            self.sent = Some(status.clone());
        }
        if wanted.delete {
            let options = value!({
                "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
                "preconditions": {"uid": (self.uid.as_str())}
            });
            self.node
                .client
                .delete(&pods, &self.namespace, &self.name, &options)
                .await?;
        }
        Ok(())
    }
}
