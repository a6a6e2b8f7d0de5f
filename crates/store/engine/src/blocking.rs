//! Work that may wait for a disk, kept off the executor.

use tokio::runtime::RuntimeFlavor;

/// Runs `work` on tokio's blocking pool, or in place where there is no runtime or one of a single thread: that belongs
/// to a test or a simulation, which a second thread would make run differently each time.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let runtime = match tokio::runtime::Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread => runtime,
        _ => return work(),
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
