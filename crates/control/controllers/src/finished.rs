//! Keeps finished pods from piling up: of more than so many the oldest go, those first that their node evicted.
//!
//! State: all pods, and how many of them have finished. Source: `pkg/controller/podgc`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloudeck_client::Client;
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Status, value};
use cloudeck_task::Scope;

use crate::kinds;
use crate::pod::Pod;
use crate::view::View;
use crate::write;

const WORKERS: usize = 1;

#[derive(Clone)]
pub(crate) struct FinishedPods {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    pods: View<Pod>,
    /// One key for all: they are counted together.
    queue: WorkQueue<ObjectKey>,
    kept: usize,
}

impl FinishedPods {
    /// Registers with the view; [`FinishedPods::run`] starts the work. `kept` pods are too few to do anything about.
    pub(crate) fn new(client: Client, pods: &View<Pod>, kept: usize) -> Self {
        let inner = Arc::new(Inner {
            client,
            pods: pods.clone(),
            queue: WorkQueue::new(),
            kept,
        });
        let (queue, finished) = (inner.queue.clone(), AtomicUsize::new(0));
        pods.on_change(move |update| {
            let is_finished = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| pod.is_finished());
            let (was, is) = (is_finished(update.old), is_finished(update.new));
            if !was && is && finished.fetch_add(1, Ordering::Relaxed) >= kept {
                queue.add(ObjectKey::new("", ""));
            } else if was && !is {
                finished.fetch_sub(1, Ordering::Relaxed);
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "finished-pods", WORKERS, queue, move |_| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile().await }
        });
    }
}

impl Inner {
    async fn reconcile(&self) -> Result<Requeue, Status> {
        for pod in too_many(self.pods.list(), self.kept) {
            let options =
                value!({"gracePeriodSeconds": 0, "preconditions": {"uid": (pod.object.uid.clone())}});
            write::delete_with(&self.client, &kinds::pods(), &pod.object.key, &options).await?;
        }
        Ok(Requeue::OnChange)
    }
}

/// The finished pods that go so that `kept` are left.
fn too_many(mut pods: Vec<Arc<Pod>>, kept: usize) -> Vec<Arc<Pod>> {
    // One that is being deleted has been told already.
    pods.retain(|pod| pod.is_finished());
    let excess = pods.len().saturating_sub(kept);
    pods.sort_by(|a, b| {
        let age = |pod: &Pod| (!pod.evicted, pod.created);
        age(a)
            .cmp(&age(b))
            .then_with(|| a.object.key.name.cmp(&b.object.key.name))
    });
    pods.truncate(excess);
    pods.retain(|pod| !pod.deleting);
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::object;
    use crate::view::Facts as _;

    fn pod(name: &str, day: u8, status: &str) -> Arc<Pod> {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","creationTimestamp":"2020-01-{day:02}T00:00:00Z"}},"status":{{{status}}}}}"#
        );
        Arc::new(Pod::read(object(name, &text)).unwrap())
    }

    #[track_caller]
    fn check(kept: usize, wanted: &[&str]) {
        let pods = vec![
            pod("young", 9, r#""phase":"Succeeded""#),
            pod("running", 1, r#""phase":"Running""#),
            pod("old", 2, r#""phase":"Failed""#),
            pod("evicted", 8, r#""phase":"Failed","reason":"Evicted""#),
        ];
        let going = too_many(pods, kept);
        let names: Vec<&str> = going.iter().map(|pod| pod.name()).collect();
        assert_eq!(names, wanted);
    }

    #[test]
    fn evicted_pods_go_first_and_then_the_oldest() {
        check(3, &[]);
        check(2, &["evicted"]);
        check(1, &["evicted", "old"]);
        check(0, &["evicted", "old", "young"]);
    }
}
