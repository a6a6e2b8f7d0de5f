//! Pulls images: documents first, then layers in parallel, each unpacked as soon as those below it are.
//!
//! Who asks for an image that is being pulled with the same credentials joins that pull. A pull runs as a task of the store
//! and ends early when nobody waits for it any more.

mod run;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cloudeck_oci::{Digest, ParseManifestError, ParseReferenceError, Platform, Reference};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::blobs::BlobError;
use crate::credentials::Credentials;
use crate::install::InstallError;
use crate::registry::RegistryError;
use crate::registry::download::DownloadError;
use crate::store::{Image, ImageError, ImageStore};

/// How far a pull is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullProgress {
    pub layers: usize,
    /// Layers that are unpacked.
    pub layers_done: usize,
    /// Compressed size of all layers.
    pub bytes: u64,
    /// Of those, how many are here.
    pub bytes_done: u64,
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("couldn't parse image name {name:?}")]
    Name {
        name: String,
        #[source]
        source: ParseReferenceError,
    },
    #[error("failed to resolve reference {reference:?}")]
    Resolve {
        reference: String,
        #[source]
        source: RegistryError,
    },
    #[error("failed to read manifest {0}")]
    Manifest(Digest, #[source] ParseManifestError),
    #[error("no match for platform {platform} in {reference}")]
    Platform { platform: Platform, reference: String },
    #[error("image has {bytes} bytes, more than the {limit} allowed")]
    TooLarge { bytes: u64, limit: u64 },
    #[error("failed to copy {0}")]
    Download(Digest, #[source] DownloadError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("the image store is busy")]
    Lock(#[source] std::io::Error),
    #[error("pull was interrupted")]
    Interrupted,
}

impl PullError {
    /// The error with all its causes in one line, as events show it.
    pub fn message(&self) -> String {
        cloudeck_telemetry::chain(self)
    }
}

/// What a pull ends with: the manifest digest.
type Outcome = Result<Digest, Arc<PullError>>;

/// Pulls under way.
#[derive(Default)]
pub(crate) struct PullTable {
    flights: Mutex<HashMap<PullKey, Weak<Flight>>>,
    /// Blobs being downloaded, so that two images with one layer download it once.
    blobs: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct PullKey {
    reference: Reference,
    credentials: Vec<Credentials>,
}

/// One pull under way, given up with its last waiter.
struct Flight {
    progress: watch::Receiver<PullProgress>,
    outcome: watch::Receiver<Option<Outcome>>,
    task: AbortHandle,
    cancelled: Arc<AtomicBool>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

/// A pull that was asked for. Dropped, it is given up unless somebody else waits for it too.
pub struct Pull {
    flight: Arc<Flight>,
    store: ImageStore,
}

impl ImageStore {
    /// Pulls an image from its registry, whether the store has it or not. Of several credentials the first that the
    /// registry takes is used; without any it is asked anonymously.
    pub async fn pull(
        &self,
        name: &str,
        credentials: Vec<Credentials>,
    ) -> Result<Arc<Image>, Arc<PullError>> {
        self.start_pull(name, credentials)?.wait().await
    }

    /// Starts (or joins) a pull, for who wants to see its progress.
    pub fn start_pull(&self, name: &str, credentials: Vec<Credentials>) -> Result<Pull, Arc<PullError>> {
        let reference = name.parse::<Reference>();
        let reference = reference.map_err(|source| PullError::Name {
            name: name.to_owned(),
            source,
        })?;
        let key = PullKey {
            reference,
            credentials,
        };
        let mut flights = self
            .inner
            .pulls
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        let known = flights.get(&key).and_then(Weak::upgrade);
        // A pull that ended is only here because its waiters did not look yet.
        let flight = known
            .filter(|flight| flight.outcome.borrow().is_none())
            .unwrap_or_else(|| {
                let flight = Arc::new(self.launch(&key));
                flights.insert(key, Arc::downgrade(&flight));
                flight
            });
        Ok(Pull {
            flight,
            store: self.clone(),
        })
    }

    fn launch(&self, key: &PullKey) -> Flight {
        let (progress_sender, progress) = watch::channel(PullProgress::default());
        let (outcome_sender, outcome) = watch::channel(None);
        let cancelled = Arc::new(AtomicBool::new(false));
        let (store, key, flag) = (self.clone(), key.clone(), Arc::clone(&cancelled));
        let task = self.inner.scope.spawn_until_shutdown("image pull", async move {
            let outcome = run(store, key, progress_sender, flag).await.map_err(Arc::new);
            outcome_sender.send_replace(Some(outcome));
        });
        Flight {
            progress,
            outcome,
            task,
            cancelled,
        }
    }
}

async fn run(
    store: ImageStore,
    key: PullKey,
    progress: watch::Sender<PullProgress>,
    cancelled: Arc<AtomicBool>,
) -> Result<Digest, PullError> {
    let content = store
        .blocking(|inner| inner.content_lock())
        .await
        .map_err(PullError::Lock)?;
    let inner = Arc::clone(&store.inner);
    let content = Arc::new(content);
    let job = run::PullJob {
        inner,
        reference: key.reference,
        progress,
        cancelled,
        content,
    };
    job.run(key.credentials).await
}

impl Pull {
    pub fn progress(&self) -> watch::Receiver<PullProgress> {
        self.flight.progress.clone()
    }

    /// Waits for the end.
    pub async fn wait(self) -> Result<Arc<Image>, Arc<PullError>> {
        let mut outcome = self.flight.outcome.clone();
        let manifest = match outcome.wait_for(Option::is_some).await {
            Ok(value) => value
                .clone()
                .unwrap_or_else(|| Err(Arc::new(PullError::Interrupted)))?,
            Err(_) => return Err(Arc::new(PullError::Interrupted)),
        };
        let images = self.store.inner.images().map_err(PullError::from)?;
        let image = images.iter().find(|image| image.manifest == manifest).cloned();
        // Removed by somebody in the meantime.
        image.ok_or_else(|| Arc::new(ImageError::NotFound(manifest.to_string()).into()))
    }
}

impl PullTable {
    /// The lock under which a blob is downloaded.
    fn blob_lock(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = blobs.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        blobs.insert(*digest, Arc::downgrade(&lock));
        lock
    }
}
