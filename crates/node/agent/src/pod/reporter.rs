//! Sends a pod's status to the API: the latest only, in order, again until it is taken.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_machinery::{GroupVersionResource, Reason, Value, json, value};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{oneshot, watch};

use crate::node::Node;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// The conditions that the agent answers for.
const OWN_CONDITIONS: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// What shall stand in the API.
#[derive(Debug, Clone, Default, PartialEq)]
struct Wanted {
    status: Option<PodStatus>,
    delete: bool,
    /// How often somebody else was seen to have changed it.
    undone: u64,
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
            righted: 0,
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

    /// Looks at the status in the API: what others make of the agent's own conditions (a node that seemed silent has its
    /// pods marked as not ready) is put right. A sight older than the last report costs a write that changes nothing.
    pub(super) fn seen(&self, there: &PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            let undone = wanted
                .status
                .as_ref()
                .is_some_and(|status| !same_conditions(status, there));
            wanted.undone += u64::from(undone);
            undone
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
    /// Of [`Wanted::undone`], what was put right.
    righted: u64,
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
            .filter(|status| self.sent.as_ref() != Some(status) || wanted.undone > self.righted)
        {
            let tree = json::parse(&cloudeck_objects::pod_status_json(status))
                .map_err(cloudeck_machinery::Status::internal)?;
            let patch = value!({"metadata": {"uid": (self.uid.as_str())}, "status": (mergeable(tree))});
            self.node
                .client
                .strategic_patch(&pods, &self.namespace, &self.name, "status", &patch)
                .await?;
            self.sent = Some(status.clone());
            self.righted = wanted.undone;
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

/// Whether what the agent says with its own conditions stands there.
fn same_conditions(said: &PodStatus, there: &PodStatus) -> bool {
    let says = |status: &PodStatus, kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        let found = conditions.find(|condition| condition.type_ == kind)?;
        Some(found.status.clone())
    };
    OWN_CONDITIONS
        .iter()
        .all(|kind| says(said, kind).is_none_or(|status| says(there, kind) == Some(status)))
}

/// The status as a strategic patch: only the agent's own conditions, so that those which others write meanwhile are
/// not undone, and the addresses as whole lists, which would otherwise be merged with those of an earlier sandbox.
fn mergeable(mut status: Value) -> Value {
    let is_own = |c: &&Value| {
        c.str_at(&["type"])
            .is_some_and(|kind| OWN_CONDITIONS.contains(&kind))
    };
    let conditions = status.items_at(&["conditions"]);
    let mut own: Vec<Value> = conditions.iter().filter(is_own).cloned().collect();
    own.iter_mut().for_each(clear_absent_words);
    clear_absent_words(&mut status);
    status.set_at(&["conditions"], Value::Array(own));
    for list in ["podIPs", "hostIPs"] {
        let addresses = status.items_at(&[list]);
        if !addresses.is_empty() {
            let mut whole = vec![value!({"$patch": "replace"})];
            whole.extend(addresses.iter().cloned());
            status.set_at(&[list], Value::Array(whole));
        }
    }
    status
}

/// A patch keeps what it does not name: an earlier reason goes only when it is taken back.
fn clear_absent_words(object: &mut Value) {
    for word in ["reason", "message"] {
        if object.str_at(&[word]).is_none() {
            object.set_at(&[word], Value::Null);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodCondition;

    use super::*;

    #[test]
    fn what_others_make_of_the_agents_conditions_is_noticed() {
        let status = |ready: &str, gate: &str| -> PodStatus {
            let conditions =
                [("Ready", ready), ("example.com/gate", gate)].map(|(kind, status)| PodCondition {
                    type_: kind.to_owned(),
                    status: status.to_owned(),
                    ..PodCondition::default()
                });
            PodStatus {
                conditions: Some(conditions.into()),
                ..PodStatus::default()
            }
        };
        assert!(same_conditions(&status("True", "False"), &status("True", "True")));
        assert!(!same_conditions(
            &status("True", "False"),
            &status("False", "False")
        ));
        assert!(same_conditions(&PodStatus::default(), &status("True", "True")));
    }

    #[test]
    fn conditions_of_others_and_old_addresses_are_left_out_of_the_patch() {
        let status = value!({
            "phase": "Running", "podIPs": [{"ip": "10.0.0.2"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "example.com/gate", "status": "False"}]
        });
        let wanted = value!({
            "phase": "Running", "podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}],
            "reason": null, "message": null
        });
        assert_eq!(mergeable(status), wanted);
    }
}
