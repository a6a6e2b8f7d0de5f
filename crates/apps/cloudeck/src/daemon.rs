//! The running cluster: every role started in its order, until a signal ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cloudeck_linux::lock::FileLock;
use cloudeck_task::Scope;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Up;
use crate::roles;
use crate::settings::{Places, Settings};

/// How long tasks have to end by themselves at shutdown.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// How long a start may take before it counts as failed.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Tells how a start comes along.
pub trait Progress {
    fn step(&mut self, text: &str);
}

/// What a killed daemon was just starting may hold its files for a moment.
pub const LEFT_BEHIND: Duration = Duration::from_secs(5);

/// Takes the data directory for this process; `None` when a cluster runs there already.
pub fn claim(places: &Places) -> Result<Option<FileLock>> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(&places.data_dir)
        .with_context(|| format!("make {}", places.data_dir.display()))?;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&places.data_dir, private)
        .with_context(|| format!("close {}", places.data_dir.display()))?;
    FileLock::acquire(places.lock(), LEFT_BEHIND).with_context(|| format!("lock {}", places.lock().display()))
}

/// Runs the cluster in this process until SIGTERM or SIGINT, or until something essential fails.
pub fn run(places: &Places, up: &Up, lock: FileLock, progress: &mut dyn Progress) -> Result<()> {
    let settings = Settings::settle(places, up)?;
    cloudeck_telemetry::init_logging(&up.log).context("set up logging")?;
    cloudeck_linux::memory::limit_arenas(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cloudeck")
        .on_thread_stop(cloudeck_linux::memory::Stocked::give_back)
        .build();
    let runtime = runtime.context("start the executor")?;
    let outcome = runtime.block_on(serve(places, &settings, progress));
    // What still blocks a thread has nothing to lose: the store is durable at every moment.
    runtime.shutdown_timeout(Duration::from_millis(100));
    drop(lock);
    outcome
}

async fn serve(places: &Places, settings: &Settings, progress: &mut dyn Progress) -> Result<()> {
    let begun = Instant::now();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let scope = Scope::root("cloudeck");
    let cluster = roles::start(places, settings, &scope, progress).await?;
    let ready = tokio::time::timeout(START_LIMIT, cluster.ready());
    tokio::select! {
        ready = ready => ready.context("the node did not become ready in time; see the log, and `cloudeck doctor`")?,
        () = scope.shutdown_requested() => bail!("{}", scope.failure().unwrap_or_else(|| "stopped while starting".to_owned())),
        _ = terminate.recv() => return stop(cluster, &scope).await,
        _ = interrupt.recv() => return stop(cluster, &scope).await,
    }
    progress.step(&format!(
        "node {} is ready after {} ms",
        settings.node_name,
        begun.elapsed().as_millis()
    ));
    progress.step(READY);
    let cluster = Arc::new(cluster);
    roles::housekeeping(&cluster, &scope);
    let failure = tokio::select! {
        () = scope.shutdown_requested() => scope.failure(),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let Some(cluster) = Arc::into_inner(cluster) else {
        // Housekeeping ends with the scope and lets go of its share then.
        scope.shutdown(SHUTDOWN).await;
        return failure.map_or(Ok(()), |why| bail!("{why}"));
    };
    stop(cluster, &scope).await?;
    failure.map_or(Ok(()), |why| bail!("{why}"))
}

/// The line that ends a successful start.
pub const READY: &str = "ready";

/// Stops serving; containers go on.
async fn stop(cluster: roles::Cluster, scope: &Scope) -> Result<()> {
    cluster.shutdown(SHUTDOWN).await;
    let report = scope.shutdown(SHUTDOWN).await;
    if !report.forced.is_empty() {
        tracing::warn!(tasks = report.forced.join(", "), "tasks were cut off at shutdown");
    }
    Ok(())
}
