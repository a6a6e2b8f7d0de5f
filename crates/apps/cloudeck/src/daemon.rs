//! The running cluster: every role started in its order, until a signal ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cloudeck_task::Scope;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::claim::{Claim, Doing};
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

/// Runs the cluster in this process until SIGTERM or SIGINT, or until something essential fails.
pub fn run(places: &Places, up: &Up, claim: Claim, progress: &mut dyn Progress) -> Result<()> {
    let settings = Settings::settle(places, up)?;
    cloudeck_telemetry::init_logging(&up.log).context("set up logging")?;
    cloudeck_linux::memory::limit_arenas(2);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cloudeck")
        .on_thread_stop(cloudeck_linux::memory::Stocked::give_back)
        .build();
    let runtime = runtime.context("start the executor")?;
    let claim = Arc::new(claim);
    let outcome = runtime.block_on(serve(places, &settings, &claim, progress));
    // Also where nobody asked for the end.
    tell(&claim, Doing::Ending);
    // What still blocks a thread has nothing to lose: the store is durable at every moment.
    runtime.shutdown_timeout(Duration::from_millis(100));
    drop(claim);
    outcome
}

async fn serve(
    places: &Places,
    settings: &Settings,
    claim: &Arc<Claim>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let begun = Instant::now();
    let scope = Scope::root("cloudeck");
    let mut asked = listen(claim, &scope)?;
    let cluster = roles::start(places, settings, &scope, progress).await?;
    let ready = tokio::time::timeout(START_LIMIT, cluster.ready());
    tokio::select! {
        ready = ready => ready.context("the node did not become ready in time; see the log, and `cloudeck doctor`")?,
        () = scope.shutdown_requested() => bail!("{}", scope.failure().unwrap_or_else(|| "stopped while starting".to_owned())),
        () = to_end(&mut asked) => return stop(cluster, &scope).await,
    }
    tell(claim, Doing::Running);
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
        () = to_end(&mut asked) => None,
    };
    tell(claim, Doing::Ending);
    let Some(cluster) = Arc::into_inner(cluster) else {
        // Housekeeping ends with the scope and lets go of its share then.
        scope.shutdown(SHUTDOWN).await;
        return failure.map_or(Ok(()), |why| bail!("{why}"));
    };
    stop(cluster, &scope).await?;
    failure.map_or(Ok(()), |why| bail!("{why}"))
}

/// Hears the signals that ask for the end, from the first moment on, and tells others at once: from then on this is no
/// cluster that another `up` could leave to run.
fn listen(claim: &Arc<Claim>, scope: &Scope) -> Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let (sender, asked) = watch::channel(false);
    let claim = Arc::clone(claim);
    scope.spawn_until_shutdown("signals", async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell(&claim, Doing::Ending);
        // Whoever does not listen any more is ending already.
        sender.send_replace(true);
        std::future::pending::<()>().await;
    });
    Ok(asked)
}

/// Resolves when the end was asked for.
async fn to_end(asked: &mut watch::Receiver<bool>) {
    if asked.wait_for(|asked| *asked).await.is_err() {
        // The scope has ended, and says itself why.
        std::future::pending::<()>().await;
    }
}

/// Others wait needlessly, or not at all, when they cannot be told; that is no reason to end or to go on.
fn tell(claim: &Claim, doing: Doing) {
    if let Err(error) = claim.tell(doing) {
        tracing::warn!(
            error = format!("{error:#}"),
            "the lock does not say what this process does"
        );
    }
}

/// The line that ends a successful start.
pub const READY: &str = "ready";
/// The line of a start that left the data directory to another one.
pub const TAKEN: &str = "taken";

/// Stops serving; containers go on.
async fn stop(cluster: roles::Cluster, scope: &Scope) -> Result<()> {
    cluster.shutdown(SHUTDOWN).await;
    let report = scope.shutdown(SHUTDOWN).await;
    if !report.forced.is_empty() {
        tracing::warn!(tasks = report.forced.join(", "), "tasks were cut off at shutdown");
    }
    Ok(())
}
