//! Removes pods that no agent will ever end: those of nodes that are gone, ones that were deleted unscheduled, and ones that
//! were deleted on a node that is out of service.
//!
//! A missing node has some time, usually 40 seconds, to appear, and is looked up afresh before its pods go.
//!
//! Source: `pkg/controller/podgc`; its other half is [`crate::finished`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudeck_client::Client;
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Reason, Status, value};
use cloudeck_task::Scope;
use compact_str::CompactString;

use crate::clock::{Clock, Now};
use crate::kinds;
use crate::node::facts::Node;
use crate::pod::Pod;
use crate::view::View;
use crate::write;

const WORKERS: usize = 1;

#[derive(Clone)]
pub(crate) struct OrphanedPods {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    nodes: View<Node>,
    pods: View<Pod>,
    queue: WorkQueue<ObjectKey>,
    /// Since when nodes that pods name are missing.
    missing: Mutex<HashMap<CompactString, Now>>,
    quarantine: Duration,
    clock: Clock,
}

impl OrphanedPods {
    /// Registers with the views; [`OrphanedPods::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        (nodes, pods): (&View<Node>, &View<Pod>),
        quarantine: Duration,
        clock: Clock,
    ) -> Self {
        let inner = Arc::new(Inner {
            client,
            nodes: nodes.clone(),
            pods: pods.clone(),
            queue: WorkQueue::new(),
            missing: Mutex::default(),
            quarantine,
            clock,
        });
        let (queue, known) = (inner.queue.clone(), pods.clone());
        nodes.on_change(move |update| {
            let is_out = |node: Option<&Arc<Node>>| node.is_some_and(|node| node.out_of_service);
            if update.new.is_none() || (is_out(update.new) && !is_out(update.old)) {
                let pods = known.list();
                let there = pods.iter().filter(|pod| pod.node == update.key.name);
                there.for_each(|pod| queue.add(pod.object.key.clone()));
            }
        });
        let (queue, known) = (inner.queue.clone(), nodes.clone());
        pods.on_change(move |update| {
            let is_lost = |pod: &Arc<Pod>| match pod.node.as_str() {
                "" => pod.deleting,
                node => match known.get(&ObjectKey::new("", node)) {
                    None => true,
                    Some(node) => node.out_of_service && pod.deleting,
                },
            };
            if update.new.is_some_and(is_lost) {
                queue.add(update.key.clone());
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "pod-garbage-collector", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Requeue::OnChange);
        };
        if pod.node.is_empty() {
            if pod.deleting {
                self.remove(&pod, false).await?;
            }
            return Ok(Requeue::OnChange);
        }
        let node = ObjectKey::new("", &pod.node);
        if let Some(node) = self.nodes.get(&node) {
            self.with_missing(|all| all.remove(&pod.node));
            if node.out_of_service && pod.deleting {
                self.remove(&pod, false).await?;
            }
            return Ok(Requeue::OnChange);
        }
        let now = (self.clock)();
        let since = self.with_missing(|all| *all.entry(pod.node.clone()).or_insert(now));
        let waited = Duration::from_millis(u64::try_from(now.0 - since.0).unwrap_or(0));
        let left = self.quarantine.saturating_sub(waited);
        if !left.is_zero() {
            return Ok(Requeue::After(left));
        }
        match self.client.get(&kinds::nodes(), "", &pod.node).await {
            Ok(_) => Ok(Requeue::After(self.quarantine)),
            Err(status) if status.reason == Reason::NotFound => {
                self.remove(&pod, true).await?;
                Ok(Requeue::OnChange)
            }
            Err(status) => Err(status),
        }
    }

    fn with_missing<R>(&self, act: impl FnOnce(&mut HashMap<CompactString, Now>) -> R) -> R {
        act(&mut self.missing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nobody will say how the pod ended, so it failed; then it goes without grace.
    async fn remove(&self, pod: &Pod, node_is_gone: bool) -> Result<(), Status> {
        let (resource, key) = (kinds::pods(), &pod.object.key);
        if !pod.is_finished() {
            let mut patch = value!({
                "metadata": {"uid": (pod.object.uid.clone())}, "status": {"phase": "Failed"}
            });
            if node_is_gone {
                let at = (self.clock)().timestamp();
                let condition = value!({
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": "PodGC: node no longer exists", "lastTransitionTime": (at)
                });
                patch.set_at(&["status", "conditions"], vec![condition]);
            }
            let told = self
                .client
                .strategic_patch(&resource, &key.namespace, &key.name, "status", &patch)
                .await;
            write::absent_is_fine(told.map(|_| ()))?;
        }
        let options = value!({"gracePeriodSeconds": 0, "preconditions": {"uid": (pod.object.uid.clone())}});
        write::delete_with(&self.client, &resource, key, &options).await
    }
}
