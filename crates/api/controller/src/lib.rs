//! What every reconciler stands on: a work queue of keys, the loop that drains it, and the event recorder.
//!
//! A reconciler takes a key and nothing else, looks at caches, decides with a pure function and acts. Knows no kind.
//! Start reading at [`WorkQueue`] and [`run`].

pub mod events;
pub mod queue;

pub use events::{EventRecorder, EventType, ObjectReference};
pub use queue::WorkQueue;

use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use cloudeck_task::Scope;

/// When to look at a key again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requeue {
    /// When something changes.
    OnChange,
    /// After this long, or earlier when something changes.
    After(Duration),
}

/// Starts `workers` tasks that reconcile the queue's keys until the scope shuts down.
///
/// A key is never reconciled by two workers at once. An error puts the key back with exponential back-off and is
/// logged; a conflict is the usual one, so it is logged at debug level by its text alone.
pub fn run<K, F, Fut, E>(scope: &Scope, name: &'static str, workers: usize, queue: WorkQueue<K>, reconcile: F)
where
    K: Clone + Eq + Hash + Display + Send + Sync + 'static,
    F: Fn(K) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Requeue, E>> + Send,
    E: Display + Send,
{
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        scope.spawn_until_shutdown(name, async move {
            loop {
                let key = queue.next().await;
                let outcome = reconcile(key.clone()).await;
                match outcome {
                    Ok(Requeue::OnChange) => queue.done(&key),
                    Ok(Requeue::After(delay)) => queue.done_again_after(&key, delay),
                    Err(error) => {
                        tracing::debug!(controller = name, %key, %error, "reconcile failed; trying again");
                        queue.done_failed(&key);
                    }
                }
            }
        });
    }
}
