//! Work that may wait for a disk, kept off the executor.

/// Runs `work` on tokio's blocking pool, or in place where there is no runtime.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return work();
    };
    match runtime.spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Blocking work is never aborted, so this is a runtime being torn down under the caller, who ends too.
            Err(_) => std::future::pending().await,
        },
    }
}
