//! Named, supervised tasks.
//!
//! Every future of the product runs in a [`Scope`]: it has a name, it sees the scope's shutdown, and its outcome is
//! observed (a panic is logged with the task's name and, for a critical task, brings the scope down). Nothing else in
//! the workspace calls `tokio::spawn`; clippy forbids it.
//!
//! Knows nothing of Kubernetes. Start reading at [`Scope`].

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// A set of tasks that is shut down together. Cheap to clone; clones are the same scope.
#[derive(Clone)]
pub struct Scope {
    inner: Arc<Inner>,
}

struct Inner {
    name: &'static str,
    token: CancellationToken,
    tracker: TaskTracker,
    running: Mutex<Vec<(u64, &'static str, Option<AbortHandle>)>>,
    next: std::sync::atomic::AtomicU64,
    failure: Mutex<Option<String>>,
}

/// How a scope ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Names of the tasks that had to be aborted at the deadline.
    pub forced: Vec<&'static str>,
    /// The first failure of a critical task, if one ended the scope.
    pub failure: Option<String>,
}

impl Scope {
    /// A scope of its own.
    pub fn root(name: &'static str) -> Self {
        Self::with_token(name, CancellationToken::new())
    }

    /// A scope that shuts down with this one, and may be shut down alone.
    pub fn child(&self, name: &'static str) -> Self {
        Self::with_token(name, self.inner.token.child_token())
    }

    fn with_token(name: &'static str, token: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                token,
                tracker: TaskTracker::new(),
                running: Mutex::new(Vec::new()),
                next: std::sync::atomic::AtomicU64::new(0),
                failure: Mutex::new(None),
            }),
        }
    }

    /// Runs `future` as the task `name`. A panic is logged and ends only this task.
    ///
    /// The task is not cancelled by the scope's shutdown until its deadline: a task that should stop early awaits
    /// [`Scope::shutdown_requested`] itself, or is spawned with [`Scope::spawn_until_shutdown`].
    pub fn spawn<F>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(name, false, async move {
            future.await;
            Ok(())
        })
    }

    /// As [`Scope::spawn`], but the future is dropped at its next await once shutdown is requested.
    pub fn spawn_until_shutdown<F>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.inner.token.clone();
        self.start(name, false, async move {
            token.run_until_cancelled(future).await;
            Ok(())
        })
    }

    /// Runs a task whose error or panic brings the whole scope down (see [`ShutdownReport::failure`]).
    pub fn spawn_critical<F, E>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        self.start(name, true, async move { future.await.map_err(|e| e.to_string()) })
    }

    fn start<F>(&self, name: &'static str, critical: bool, future: F) -> AbortHandle
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let id = inner.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let entry = Entry {
            inner: Arc::clone(&inner),
            id,
        };
        let observed = async move {
            let entry = entry;
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            entry
                .inner
                .observe(name, critical, outcome.map_err(|p| panic_text(&*p)));
        };
        // Listed before it runs: it may end, or be dropped by a runtime that shuts down, within the spawn.
        lock(&inner.running).push((id, name, None));
        let handle = inner.tracker.spawn(observed).abort_handle();
        if let Some(entry) = lock(&inner.running).iter_mut().find(|(other, _, _)| *other == id) {
            entry.2 = Some(handle.clone());
        }
        handle
    }

    /// Resolves when shutdown of this scope (or a parent) was requested.
    pub fn shutdown_requested(&self) -> WaitForCancellationFutureOwned {
        self.inner.token.clone().cancelled_owned()
    }

    /// Whether shutdown was requested.
    pub fn is_shutting_down(&self) -> bool {
        self.inner.token.is_cancelled()
    }

    /// Asks all tasks to stop without waiting for them.
    pub fn request_shutdown(&self) {
        self.inner.token.cancel();
    }

    /// Stops the scope: requests shutdown, waits up to `deadline`, aborts the rest, and tells which those were.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.inner.token.cancel();
        self.inner.tracker.close();
        let mut forced = Vec::new();
        if tokio::time::timeout(deadline, self.inner.tracker.wait())
            .await
            .is_err()
        {
            let running: Vec<_> = lock(&self.inner.running).drain(..).collect();
            for (_, name, handle) in running {
                if let Some(handle) = handle {
                    handle.abort();
                    forced.push(name);
                }
            }
            self.inner.tracker.wait().await;
        }
        let failure = lock(&self.inner.failure).clone();
        ShutdownReport { forced, failure }
    }

    /// The first failure of a critical task.
    pub fn failure(&self) -> Option<String> {
        lock(&self.inner.failure).clone()
    }
}

/// A task's place in the list of running ones; given up when its future is dropped, aborted tasks included.
struct Entry {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        lock(&self.inner.running).retain(|(other, _, _)| *other != self.id);
    }
}

impl Inner {
    fn observe(&self, name: &'static str, critical: bool, outcome: Result<Result<(), String>, String>) {
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => format!("panicked: {panic}"),
        };
        tracing::error!(scope = self.name, task = name, error, "task failed");
        if critical {
            lock(&self.failure).get_or_insert_with(|| format!("{name}: {error}"));
            self.token.cancel();
        }
    }
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown payload".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_tasks_that_drain() {
        let scope = Scope::root("t");
        let requested = scope.shutdown_requested();
        scope.spawn("drains", async move {
            requested.await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
        let report = scope.shutdown(Duration::from_secs(5)).await;
        assert_eq!(
            report,
            ShutdownReport {
                forced: vec![],
                failure: None
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_aborts_and_names_a_task_that_does_not_drain() {
        let scope = Scope::root("t");
        scope.spawn("stuck", std::future::pending());
        let report = scope.shutdown(Duration::from_secs(5)).await;
        assert_eq!(report.forced, vec!["stuck"]);
    }

    #[tokio::test]
    async fn a_critical_failure_brings_the_scope_down() {
        let scope = Scope::root("t");
        scope.spawn_critical("bad", async { Err::<(), _>("no disk") });
        scope.shutdown_requested().await;
        assert_eq!(scope.failure().as_deref(), Some("bad: no disk"));
    }

    #[tokio::test]
    async fn a_panic_is_observed_and_ends_only_its_task() {
        let scope = Scope::root("t");
        scope.spawn("panics", async { panic!("boom") });
        let report = scope.shutdown(Duration::from_secs(5)).await;
        assert!(report.forced.is_empty());
        assert_eq!(report.failure, None);
    }

    #[tokio::test]
    async fn an_aborted_task_leaves_no_entry() {
        let scope = Scope::root("t");
        scope.spawn("long", std::future::pending()).abort();
        while !lock(&scope.inner.running).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_ends_with_its_parent() {
        let parent = Scope::root("p");
        let child = parent.child("c");
        parent.request_shutdown();
        child.shutdown_requested().await;
        assert!(child.is_shutting_down());
    }
}
