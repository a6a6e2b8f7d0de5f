//! The pods of this node: one worker each, driven by the API's watch and the runtime's events.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cloudeck_client::{Change, Informer, Subscription};
use cloudeck_machinery::Object;
use cloudeck_runtime::{RuntimeEvent, SandboxId};
use tokio::sync::{broadcast, mpsc};

use crate::node::Node;
use crate::pod::convert::label;
use crate::pod::memo::EarlyExit;
use crate::pod::report::Report;
use crate::pod::worker::{INBOX, Worker};

/// Routes news to workers.
pub(crate) struct Manager {
    node: Arc<Node>,
    pods: Informer,
    workers: HashMap<String, Running>,
}

struct Running {
    inbox: mpsc::Sender<Report>,
    done: tokio::sync::watch::Receiver<bool>,
}

impl Manager {
    pub(crate) fn new(node: Arc<Node>, pods: Informer) -> Self {
        Self {
            node,
            pods,
            workers: HashMap::new(),
        }
    }

    /// Runs until the scope shuts down.
    pub(crate) async fn run(mut self) {
        let mut events = self.node.runtime.events();
        self.pods.synced().await;
        let mut changes = self.pods.subscribe();
        self.remove_orphans();
        loop {
            tokio::select! {
                change = changes.next() => self.changed(change, &mut changes).await,
                event = events.recv() => match event {
                    Ok(event) => self.runtime_event(event).await,
                    // Events are hints: after a gap every pod is looked at anew.
                    Err(broadcast::error::RecvError::Lagged(_)) => self.resync().await,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }

    /// What earlier lives left of pods that the API no longer knows.
    fn remove_orphans(&self) {
        let wanted: HashSet<String> = self.pods.list().iter().map(|pod| pod.uid.to_string()).collect();
        let sandboxes = self.node.runtime.sandboxes();
        let found = sandboxes.iter().filter_map(|sandbox| {
            let labels = &sandbox.config.labels;
            let part = |name| labels.get(name).cloned().unwrap_or_default();
            let dir = format!(
                "{}_{}_{}",
                part(label::POD_NAMESPACE),
                part(label::POD_NAME),
                part(label::POD_UID)
            );
            Some((labels.get(label::POD_UID)?.clone(), dir))
        });
        let orphans: HashMap<String, String> = found.filter(|(uid, _)| !wanted.contains(uid)).collect();
        for (uid, dir) in orphans {
            tracing::info!(pod = uid, "removing what a deleted pod left");
            let node = Arc::clone(&self.node);
            self.node
                .scope
                .spawn_until_shutdown("clean up orphan", async move {
                    crate::pod::operations::clean_up(&node, &uid, &node.config.logs_dir().join(dir)).await;
                });
        }
    }

    async fn changed(&mut self, change: Change, _changes: &mut Subscription) {
        let Change { old, new, .. } = change;
        if let Some(old) = &old
            && new.as_ref().is_none_or(|new| new.uid != old.uid)
        {
            self.send(&old.uid, Report::Object(None)).await;
        }
        let Some(object) = new else { return };
        self.workers.retain(|_, running| !*running.done.borrow());
        if self.workers.contains_key(object.uid.as_str()) {
            self.send(&object.uid.clone(), Report::Object(Some(object))).await;
        } else {
            self.start(&object);
        }
    }

    fn start(&mut self, object: &Object) {
        let pod = match cloudeck_objects::pod(&object.json) {
            Ok(pod) => Arc::new(pod),
            Err(error) => {
                tracing::warn!(pod = %object.key, %error, "pod not readable");
                return;
            }
        };
        let (inbox, receiver) = mpsc::channel(INBOX);
        let (done_sender, done) = tokio::sync::watch::channel(false);
        let worker = Worker::new(Arc::clone(&self.node), pod, inbox.clone(), receiver);
        self.node.scope.spawn_until_shutdown("pod", async move {
            worker.run().await;
            done_sender.send_replace(true);
        });
        self.workers
            .insert(object.uid.to_string(), Running { inbox, done });
    }

    async fn send(&self, uid: &str, report: Report) {
        if let Some(running) = self.workers.get(uid) {
            // A worker that has ended needs no news.
            let _ = running.inbox.send(report).await;
        }
    }

    async fn runtime_event(&self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::ContainerStarted { .. } => {}
            RuntimeEvent::ContainerExited {
                sandbox,
                container,
                exit,
            } => {
                let Some(uid) = self.uid_of(&sandbox) else { return };
                let message = match self.node.runtime.container_status(&container) {
                    Ok(status) => crate::termination::message(&self.node, &status).await,
                    Err(_) => String::new(),
                };
                self.send(
                    &uid,
                    Report::Exited {
                        id: container,
                        exit: Some(exit),
                        message,
                    },
                )
                .await;
            }
            RuntimeEvent::SandboxDied { sandbox } | RuntimeEvent::ShimDied { sandbox } => {
                let Some(uid) = self.uid_of(&sandbox) else { return };
                let ends = self.ends(&sandbox).await;
                self.send(&uid, Report::SandboxDied { id: sandbox, ends }).await;
            }
        }
    }

    /// The ends of a dead sandbox's containers, known or unknown.
    async fn ends(&self, sandbox: &SandboxId) -> Vec<EarlyExit> {
        let containers = self.node.runtime.containers();
        let mut ends = Vec::new();
        for status in containers.into_iter().filter(|c| c.sandbox == *sandbox) {
            let message = crate::termination::message(&self.node, &status).await;
            ends.push(EarlyExit {
                id: status.id,
                exit: status.exit,
                message,
            });
        }
        ends
    }

    async fn resync(&self) {
        let (sandboxes, containers) = (self.node.runtime.sandboxes(), self.node.runtime.containers());
        for status in containers
            .into_iter()
            .filter(|c| c.state == cloudeck_runtime::ContainerState::Exited)
        {
            if let Some(uid) = status.config.labels.get(label::POD_UID).cloned() {
                let message = crate::termination::message(&self.node, &status).await;
                self.send(
                    &uid,
                    Report::Exited {
                        id: status.id.clone(),
                        exit: status.exit,
                        message,
                    },
                )
                .await;
            }
        }
        for sandbox in sandboxes
            .iter()
            .filter(|s| s.state == cloudeck_runtime::SandboxState::NotReady)
        {
            if let Some(uid) = sandbox.config.labels.get(label::POD_UID) {
                let ends = self.ends(&sandbox.id).await;
                let id = sandbox.id.clone();
                self.send(uid, Report::SandboxDied { id, ends }).await;
            }
        }
    }

    fn uid_of(&self, sandbox: &SandboxId) -> Option<String> {
        let status = self.node.runtime.sandbox_status(sandbox).ok()?;
        status.config.labels.get(label::POD_UID).cloned()
    }
}
