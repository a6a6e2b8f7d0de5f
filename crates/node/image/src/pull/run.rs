//! One pull, from the name to the image.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloudeck_oci::{Descriptor, Digest, Document, Manifest, Platform, Reference};
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::{oneshot, watch};

use super::{PullError, PullProgress};
use crate::blobs::{BlobError, sha256};
use crate::credentials::Credentials;
use crate::index::FileLock;
use crate::install::{Arrived, DOCUMENT_BYTES_MAX};
use crate::registry::download::DownloadError;
use crate::registry::{FetchedDocument, Registry, RegistryError};
use crate::store::Inner;

/// Index in index: more is a loop.
const NESTING_MAX: usize = 4;

pub(super) struct PullJob {
    pub(super) inner: Arc<Inner>,
    pub(super) reference: Reference,
    pub(super) progress: watch::Sender<PullProgress>,
    /// Seen by work that cannot be dropped, because it runs on a thread.
    pub(super) cancelled: Arc<AtomicBool>,
    /// Keeps content that arrives from being collected. Such work holds it too, as it may outlive the pull.
    pub(super) content: Arc<FileLock>,
}

/// The documents of the image for this platform.
struct Resolved {
    /// What the name stands for: the manifest, or an index above it.
    top: Digest,
    manifest_digest: Digest,
    manifest: Manifest,
    documents: Vec<Digest>,
}

impl PullJob {
    /// Runs the pull and returns the manifest digest.
    pub(super) async fn run(self, credentials: Vec<Credentials>) -> Result<Digest, PullError> {
        let (registry, top) = self.connect(credentials).await?;
        let resolved = self.resolve(&registry, top).await?;
        let manifest = &resolved.manifest;
        self.check_size(manifest)?;
        self.blob(&registry, &manifest.config, &|_| {}).await?;
        let (config, layers) = (manifest.config.digest, manifest.layers.len());
        let config = self
            .blocking(move |inner| inner.read_config(&config, layers))
            .await?;
        self.layers(&registry, &manifest.layers, config.rootfs.diff_ids)
            .await?;
        let arrived = self.arrived(&resolved);
        let cancelled = Arc::clone(&self.cancelled);
        self.blocking(move |inner| inner.install(&arrived, &|| cancelled.load(Ordering::Relaxed)))
            .await?;
        Ok(resolved.manifest_digest)
    }

    /// Asks with each of the credentials until the registry shows the image.
    async fn connect(&self, credentials: Vec<Credentials>) -> Result<(Registry, FetchedDocument), PullError> {
        let mut candidates: Vec<_> = credentials.into_iter().map(Some).collect();
        if candidates.is_empty() {
            candidates.push(None);
        }
        let mut refused = None;
        for candidate in candidates {
            let config = &self.inner.config;
            let resolver = config.resolver.clone();
            let registry = Registry::new(&self.reference, candidate, config, resolver, &self.inner.scope);
            match registry.document(&self.reference.manifest_key()).await {
                Ok(document) => return Ok((registry, document)),
                Err(error @ RegistryError::Unauthorized(_)) => refused = Some(error),
                Err(error) => return Err(self.unresolved(error)),
            }
        }
        Err(self.unresolved(refused.expect("at least one candidate was tried")))
    }

    /// Goes from what the name stands for to the manifest for this platform.
    async fn resolve(&self, registry: &Registry, top: FetchedDocument) -> Result<Resolved, PullError> {
        let top_digest = sha256(&top.bytes);
        if let Some(expected) = self.reference.digest().filter(|expected| *expected != top_digest) {
            return Err(BlobError::Digest {
                expected,
                found: top_digest,
            }
            .into());
        }
        let platform = Platform::host();
        let no_match = || PullError::Platform {
            platform: platform.clone(),
            reference: self.reference.to_string(),
        };
        let mut documents = Vec::new();
        let (mut digest, mut fetched) = (top_digest, top);
        for _ in 0..NESTING_MAX {
            let document = Document::parse(&fetched.bytes, fetched.content_type.as_deref())
                .map_err(|source| PullError::Manifest(digest, source))?;
            let bytes = std::mem::take(&mut fetched.bytes);
            self.blocking(move |inner| inner.blobs.put(&bytes)).await?;
            let index = match document {
                Document::Manifest(manifest) => {
                    return Ok(Resolved {
                        top: top_digest,
                        manifest_digest: digest,
                        manifest,
                        documents,
                    });
                }
                Document::Index(index) => index,
            };
            documents.push(digest);
            let selected = index.select(&platform).ok_or_else(no_match)?;
            digest = selected.digest;
            fetched = registry
                .document(&digest.to_string())
                .await
                .map_err(|error| self.unresolved(error))?;
            let found = sha256(&fetched.bytes);
            if found != digest {
                return Err(BlobError::Digest {
                    expected: digest,
                    found,
                }
                .into());
            }
        }
        Err(no_match())
    }

    fn check_size(&self, manifest: &Manifest) -> Result<(), PullError> {
        let limit = self.inner.config.image_bytes_max;
        if manifest.config.size > DOCUMENT_BYTES_MAX {
            return Err(BlobError::TooLarge {
                digest: manifest.config.digest,
                limit: DOCUMENT_BYTES_MAX,
            }
            .into());
        }
        let bytes = manifest
            .layers
            .iter()
            .fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
        if bytes > limit {
            return Err(PullError::TooLarge { bytes, limit });
        }
        self.progress.send_modify(|progress| {
            progress.layers = manifest.layers.len();
            progress.bytes = bytes;
        });
        Ok(())
    }

    /// Downloads layers side by side and unpacks each as soon as it and those below it are here.
    async fn layers(
        &self,
        registry: &Registry,
        layers: &[Descriptor],
        diff_ids: Vec<Digest>,
    ) -> Result<(), PullError> {
        let (senders, receivers): (Vec<_>, Vec<_>) = layers.iter().map(|_| oneshot::channel()).unzip();
        let download = |(layer, arrived): (Descriptor, oneshot::Sender<()>)| async move {
            self.blob(registry, &layer, &|more| self.count(more)).await?;
            // Nobody listens if unpacking failed; then this is about to be dropped.
            let _ = arrived.send(());
            Ok::<_, PullError>(())
        };
        // Owned items: a closure over borrowed ones is not general enough for the compiler inside a task.
        let queue: Vec<_> = layers.iter().cloned().zip(senders).collect();
        let at_once = self.inner.config.parallel_downloads.max(1);
        let downloads = futures_util::stream::iter(queue)
            .map(download)
            .buffer_unordered(at_once);
        let downloads = downloads.try_collect::<Vec<()>>();
        let unpack = self.unpack_in_order(layers, receivers, diff_ids);
        tokio::try_join!(downloads, unpack)?;
        Ok(())
    }

    async fn unpack_in_order(
        &self,
        layers: &[Descriptor],
        arrivals: Vec<oneshot::Receiver<()>>,
        diff_ids: Vec<Digest>,
    ) -> Result<(), PullError> {
        let diff_ids: Arc<[Digest]> = diff_ids.into();
        for (position, (layer, arrival)) in layers.iter().zip(arrivals).enumerate() {
            if arrival.await.is_err() {
                // The download failed, and its own error ends the pull.
                return std::future::pending().await;
            }
            let (digest, diff_ids) = (layer.digest, Arc::clone(&diff_ids));
            let cancelled = Arc::clone(&self.cancelled);
            self.blocking(move |inner| {
                inner.unpack_layer(&diff_ids, position, &digest, &|| {
                    cancelled.load(Ordering::Relaxed)
                })
            })
            .await?;
            self.progress.send_modify(|progress| progress.layers_done += 1);
        }
        Ok(())
    }

    /// Makes sure that a blob is in the store.
    async fn blob(
        &self,
        registry: &Registry,
        descriptor: &Descriptor,
        progress: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<(), PullError> {
        let digest = descriptor.digest;
        let lock = self.inner.pulls.blob_lock(&digest);
        let _downloading = lock.lock().await;
        if self.inner.blobs.size(&digest) == Some(descriptor.size) {
            progress(descriptor.size as i64);
            return Ok(());
        }
        let failed = |error: DownloadError| PullError::Download(digest, error);
        let staged = registry
            .download(&self.inner.blobs, descriptor, progress, &self.content)
            .await;
        let staged = staged.map_err(failed)?;
        self.blocking(move |_| staged.commit()).await?;
        Ok(())
    }

    fn count(&self, more: i64) {
        self.progress
            .send_modify(|progress| progress.bytes_done = progress.bytes_done.saturating_add_signed(more));
    }

    /// A tag names the image; what it was resolved to is its repository digest in any case.
    fn arrived(&self, resolved: &Resolved) -> Arrived {
        let tagged = self
            .reference
            .digest()
            .is_none()
            .then(|| self.reference.to_string());
        Arrived {
            manifest: resolved.manifest_digest,
            config: resolved.manifest.config.digest,
            documents: resolved.documents.clone(),
            layers: resolved
                .manifest
                .layers
                .iter()
                .map(|layer| (layer.digest, layer.size))
                .collect(),
            names: tagged.into_iter().collect(),
            repo_digests: vec![self.reference.at(resolved.top).to_string()],
        }
    }

    async fn blocking<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Inner>) -> T + Send + 'static,
    {
        let (inner, content) = (Arc::clone(&self.inner), Arc::clone(&self.content));
        let work = move || {
            let _content = content;
            work(&inner)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    fn unresolved(&self, source: RegistryError) -> PullError {
        PullError::Resolve {
            reference: self.reference.to_string(),
            source,
        }
    }
}
