//! The proxy's loop: changes in, batches out.

use cloudeck_task::Scope;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::apply::Installer;
use crate::config::ProxyConfig;
use crate::error::{ProxyApplyError, ProxyStartError};
use crate::model::{Change, Delta, Model, NodeView};

/// Changes that wait for a batch to be installed; more than this and the informers wait, which lose nothing.
const CHANGES_WAITING: usize = 1024;
/// Changes that go into one batch, so that a flood does not put off the first of it.
const CHANGES_PER_BATCH: usize = 512;

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
        let run = Loop {
            model: Model::new(node),
            installer: Some(installer),
            told,
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
    told: watch::Sender<Progress>,
}

impl Loop {
    async fn run(mut self, mut received: mpsc::Receiver<Change>) {
        let mut waiting = Vec::new();
        loop {
            let count = received.recv_many(&mut waiting, CHANGES_PER_BATCH).await;
            if count == 0 {
                return;
            }
            let mut synced_now = false;
            for change in waiting.drain(..) {
                synced_now |= change == Change::Synced;
                self.model.apply(change);
            }
            let progress = *self.told.borrow();
            let synced = progress.synced || synced_now;
            let failing = synced && !self.install(synced_now || progress.failing).await;
            self.told.send_modify(|progress| {
                *progress = Progress {
                    changes: progress.changes + count as u64,
                    synced,
                    failing,
                };
            });
        }
    }

    /// Installs what has changed, or everything. `false` when the kernel does not hold it now.
    async fn install(&mut self, everything: bool) -> bool {
        if !everything {
            let delta = self.model.take_delta();
            if delta.is_empty() {
                return true;
            }
            let (delta, outcome) = self.on_thread(delta, Installer::change).await;
            match outcome {
                Ok(()) => {
                    self.clean(delta).await;
                    return true;
                }
                Err(error) => warn!(
                    error = describe(&error),
                    "installing the whole service table anew"
                ),
            }
        }
        let entries = self.model.take_all();
        let (entries, outcome) = self
            .on_thread(entries, |installer, entries| installer.replace(entries))
            .await;
        match outcome {
            Ok(()) => {
                info!(entries = entries.len(), "installed the service table");
                true
            }
            Err(error) => {
                warn!(
                    error = describe(&error),
                    "service table not installed; the next change tries again"
                );
                false
            }
        }
    }

    async fn clean(&mut self, delta: Delta) {
        if delta.stale_affinity.is_empty() && delta.stale_connections.is_empty() {
            return;
        }
        let (_, outcome) = self.on_thread(delta, Installer::clean).await;
        if let Err(error) = outcome {
            warn!(
                error = describe(&error),
                "clients of removed endpoints are not let go"
            );
        }
    }

    async fn on_thread<T: Send + 'static>(
        &mut self,
        what: T,
        action: fn(&mut Installer, &T) -> Result<(), ProxyApplyError>,
    ) -> (T, Result<(), ProxyApplyError>) {
        let mut installer = self
            .installer
            .take()
            .expect("it is put back before the next call");
        let work = tokio::task::spawn_blocking(move || {
            let outcome = action(&mut installer, &what);
            (installer, what, outcome)
        });
        match work.await {
            Ok((installer, what, outcome)) => {
                self.installer = Some(installer);
                (what, outcome)
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and with it this loop.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

/// The error with all its causes.
fn describe(error: &ProxyApplyError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
