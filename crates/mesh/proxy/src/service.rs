//! The proxy's loop: changes in, batches out.

use std::time::Duration;

use cloudeck_net::nftables::NftWatch;
use cloudeck_task::Scope;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::apply::Installer;
use crate::config::ProxyConfig;
use crate::error::ProxyStartError;
use crate::model::{Change, Delta, Model, NodeView};

/// Changes that wait for a batch to be installed; more than this and the informers wait, which lose nothing.
const CHANGES_WAITING: usize = 1024;
/// Changes that go into one batch, so that a flood does not put off the first of it.
const CHANGES_PER_BATCH: usize = 512;

/// How long a table that could not be installed waits for the next attempt, if no change comes before: twice as long after
/// each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// A running proxy. Cheap to clone; clones are the same proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    changes: mpsc::Sender<Change>,
    progress: watch::Receiver<Progress>,
}

/// How far the proxy has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many changes have been dealt with.
    pub changes: u64,
    /// Whether the whole state has been installed once.
    pub synced: bool,
    /// Whether the last batch could not be installed.
    pub failing: bool,
}

impl Proxy {
    /// Opens the sockets and starts the loop. Until [`Change::Synced`] was told, nothing is installed.
    pub fn start(config: &ProxyConfig, scope: &Scope) -> Result<Self, ProxyStartError> {
        let installer = Installer::open(config)?;
        let node = NodeView {
            name: config.node_name.clone(),
            address: config.node_ip,
        };
        let (changes, received) = mpsc::channel(CHANGES_WAITING);
        let (told, progress) = watch::channel(Progress::default());
        let watch = NftWatch::open(config.namespace.as_deref()).map_err(ProxyStartError::Socket)?;
        let (tell_removal, removals) = mpsc::channel(1);
        scope.spawn_until_shutdown(
            "service-proxy-watch",
            watch.tell_of_removals(config.table(), tell_removal),
        );
        let run = Loop {
            model: Model::new(node),
            installer: Some(installer),
            removals,
            told,
            retry_at: None,
            next_retry: FIRST_RETRY,
        };
        scope.spawn_until_shutdown("service-proxy", run.run(received));
        Ok(Self { changes, progress })
    }

    /// Tells the proxy of a change. `false` when it has ended.
    ///
    /// # Cancel safety
    /// A dropped future has told nothing.
    pub async fn tell(&self, change: Change) -> bool {
        self.changes.send(change).await.is_ok()
    }

    /// How far the proxy has come, to wait on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits until so many changes have been dealt with. `false` when the proxy has ended before.
    pub async fn wait_for_changes(&self, count: u64) -> bool {
        self.progress()
            .wait_for(|progress| progress.changes >= count)
            .await
            .is_ok()
    }
}

struct Loop {
    model: Model,
    /// Away while a thread installs something.
    installer: Option<Installer>,
    /// Something was said about the removal of our table.
    removals: mpsc::Receiver<()>,
    told: watch::Sender<Progress>,
    /// When to try again what failed.
    retry_at: Option<Instant>,
    next_retry: Duration,
}

impl Loop {
    async fn run(mut self, mut received: mpsc::Receiver<Change>) {
        let mut waiting = Vec::new();
        loop {
            let lost = tokio::select! {
                count = received.recv_many(&mut waiting, CHANGES_PER_BATCH) => {
                    if count == 0 {
                        return;
                    }
                    false
                }
                Some(()) = self.removals.recv() => self.is_lost().await,
                () = until(self.retry_at) => false,
            };
            self.deal_with(&mut waiting, lost).await;
        }
    }

    async fn deal_with(&mut self, waiting: &mut Vec<Change>, lost: bool) {
        let count = waiting.len() as u64;
        let mut synced_now = false;
        for change in waiting.drain(..) {
            synced_now |= change == Change::Synced;
            self.model.apply(change);
        }
        let progress = *self.told.borrow();
        let synced = progress.synced || synced_now;
        let failing = synced && !self.install(synced_now || progress.failing || lost).await;
        self.plan_retry(failing);
        self.told.send_modify(|progress| {
            *progress = Progress {
                changes: progress.changes + count,
                synced,
                failing,
            };
        });
    }

    fn plan_retry(&mut self, failing: bool) {
        if failing {
            self.retry_at = Some(Instant::now() + self.next_retry);
            self.next_retry = (self.next_retry * 2).min(LONGEST_RETRY);
        } else {
            self.retry_at = None;
            self.next_retry = FIRST_RETRY;
        }
    }

    /// Whether somebody has removed our table. When we ourselves replace it, it is there again.
    async fn is_lost(&mut self) -> bool {
        if !self.told.borrow().synced {
            return false;
        }
        let installed = self.on_thread(Installer::is_installed).await;
        let lost = matches!(installed, Ok(false));
        if lost {
            warn!("somebody removed the service table; installing it anew");
        }
        lost
    }

    /// Installs what has changed, or everything. `false` when the kernel does not hold it now.
    async fn install(&mut self, everything: bool) -> bool {
        if !everything {
            let delta = self.model.take_delta();
            if delta.is_empty() {
                return true;
            }
            let (delta, outcome) = self
                .on_thread(move |installer| {
                    let outcome = installer.change(&delta);
                    (delta, outcome)
                })
                .await;
            match outcome {
                Ok(()) => {
                    self.clean(delta).await;
                    return true;
                }
                Err(error) => warn!(
                    error = cloudeck_telemetry::chain(&error),
                    "installing the whole service table anew"
                ),
            }
        }
        let entries = self.model.take_all();
        let count = entries.len();
        match self.on_thread(move |installer| installer.replace(&entries)).await {
            Ok(()) => {
                info!(entries = count, "installed the service table");
                self.clean_all().await;
                true
            }
            Err(error) => {
                warn!(
                    error = cloudeck_telemetry::chain(&error),
                    "service table not installed; trying again"
                );
                false
            }
        }
    }

    async fn clean(&mut self, delta: Delta) {
        if delta.stale_affinity.is_empty() && delta.stale_connections.is_empty() {
            return;
        }
        if let Err(error) = self.on_thread(move |installer| installer.clean(&delta)).await {
            warn!(
                error = cloudeck_telemetry::chain(&error),
                "clients of removed endpoints are not let go"
            );
        }
    }

    /// Lets go of whom the difference to an earlier life's table would have told.
    async fn clean_all(&mut self) {
        match self.on_thread(Installer::tracked_datagrams).await {
            Ok(tracked) => {
                let stale_connections = self.model.stale_among(&tracked);
                self.clean(Delta {
                    stale_connections,
                    ..Delta::default()
                })
                .await;
            }
            Err(error) => warn!(
                error = cloudeck_telemetry::chain(&error),
                "tracked connections cannot be listed"
            ),
        }
    }

    async fn on_thread<R: Send + 'static>(
        &mut self,
        action: impl FnOnce(&mut Installer) -> R + Send + 'static,
    ) -> R {
        let mut installer = self
            .installer
            .take()
            .expect("it is put back before the next call");
        let work = tokio::task::spawn_blocking(move || {
            let outcome = action(&mut installer);
            (installer, outcome)
        });
        match work.await {
            Ok((installer, outcome)) => {
                self.installer = Some(installer);
                outcome
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and with it this loop.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
