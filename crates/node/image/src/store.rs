//! The image store: what the agent and the command line hold.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use cloudeck_oci::{ConfigFile, Digest, ImageConfig, Reference};
use cloudeck_task::Scope;

use crate::blobs::{BlobError, Blobs};
use crate::config::StoreConfig;
use crate::durability::Durability;
use crate::gc::{CollectError, Collected};
use crate::index::{Index, IndexError, IndexFile, Record, Stamp};
use crate::rootfs::{RootFileSystems, RootFs, RootFsError};
use crate::snapshots::Snapshots;

/// A directory of images. Cheap to clone; clones are the same store. Several processes may open one directory.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) config: StoreConfig,
    pub(crate) scope: Scope,
    pub(crate) blobs: Blobs,
    pub(crate) snapshots: Snapshots,
    pub(crate) durability: Durability,
    pub(crate) rootfs: RootFileSystems,
    pub(crate) index_file: IndexFile,
    pub(crate) pulls: crate::pull::PullTable,
    cached: Mutex<Option<Cached>>,
}

/// The index as last read, and the images in it.
struct Cached {
    stamp: Stamp,
    images: Arc<Vec<Arc<Image>>>,
}

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of the configuration.
    pub id: Digest,
    /// The digest of the manifest for this platform.
    pub manifest: Digest,
    /// Canonical tagged names, `docker.io/library/nginx:latest`.
    pub names: Vec<String>,
    /// `docker.io/library/nginx@sha256:…` for each registry it was pulled from.
    pub repo_digests: Vec<String>,
    /// Compressed size of everything the image consists of.
    pub size_bytes: u64,
    pub config: ConfigFile,
    chain: Vec<Digest>,
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    #[error("preparing image store {path} failed")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Collect(#[from] CollectError),
}

/// Why images were not read or removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("no image {0:?} in the store")]
    NotFound(String),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Collect(#[from] CollectError),
}

impl ImageStore {
    /// Opens a store, makes it where there is none, and clears what a crash left. Blocks (a listing of two directories
    /// where there is nothing to clear). Pulls run in `scope`; must be called inside a runtime.
    pub fn open(root: &Path, config: StoreConfig, scope: &Scope) -> Result<Self, OpenStoreError> {
        let failed = |source| OpenStoreError::Io {
            path: root.to_owned(),
            source,
        };
        fs::create_dir_all(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let blobs = Blobs::open(&root)?;
        let snapshots = Snapshots::open(&root, blobs.clone()).map_err(failed)?;
        let inner = Inner {
            durability: Durability::open(&root, snapshots.clone(), blobs.clone()).map_err(failed)?,
            snapshots,
            rootfs: RootFileSystems::open(&root, blobs.clone()).map_err(failed)?,
            index_file: IndexFile::new(&root),
            pulls: crate::pull::PullTable::default(),
            cached: Mutex::new(None),
            scope: scope.child("images"),
            root,
            config,
            blobs,
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        store.inner.recover().map_err(CollectError::from)?;
        store.inner.collect()?;
        store.inner.sync_soon();
        Ok(store)
    }

    /// All images, by id. One system call where nothing changed since the last call.
    pub fn list(&self) -> Result<Vec<Arc<Image>>, ImageError> {
        Ok(self.inner.images()?.to_vec())
    }

    /// An image by name (`nginx`, `ghcr.io/a/b:1`), by `name@digest`, by id or by the beginning of an id.
    pub fn get(&self, name: &str) -> Result<Option<Arc<Image>>, ImageError> {
        Ok(find(&self.inner.images()?, name).cloned())
    }

    /// Removes a name, and with its last name the image; an id or digest removes all names. Snapshots in use by
    /// containers stay until those are released.
    pub async fn remove(&self, name: &str) -> Result<(), ImageError> {
        let name = name.to_owned();
        self.blocking(move |inner| {
            inner.remove(&name)?;
            inner.collect()?;
            Ok(())
        })
        .await
    }

    /// Removes content that no image and no container needs. None if content is arriving right now.
    pub async fn collect_garbage(&self) -> Result<Option<Collected>, CollectError> {
        self.blocking(|inner| inner.collect()).await
    }

    /// Makes (or after a restart finds) the directories of a container's root file system.
    pub async fn prepare_rootfs(&self, container_key: &str, image: &Image) -> Result<RootFs, RootFsError> {
        let (key, manifest, chain) = (container_key.to_owned(), image.manifest, image.chain.clone());
        self.blocking(move |inner| {
            if chain.iter().any(|layer| !inner.snapshots.contains(layer)) {
                inner.restore(manifest)?;
            }
            inner.prepare_rootfs(&key, manifest, &chain)
        })
        .await
    }

    /// Removes the directories of a container, which must not be mounted any more. What is absent is no error.
    pub async fn release_rootfs(&self, container_key: &str) -> Result<(), RootFsError> {
        let key = container_key.to_owned();
        self.blocking(move |inner| {
            let failed = |source| RootFsError::Io {
                path: inner.root.clone(),
                source,
            };
            let _content = inner.content_lock().map_err(failed)?;
            inner.rootfs.release(&key)
        })
        .await
    }

    /// Keys of all prepared root file systems, for finding those whose containers are gone.
    pub fn rootfs_keys(&self) -> io::Result<Vec<String>> {
        self.inner.rootfs.keys()
    }

    /// Runs file work off the executor; it runs to its end even if the caller goes away.
    pub(crate) async fn blocking<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Inner>) -> T + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and with it whoever waits here.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

impl Image {
    /// What a container runs unless its pod says otherwise.
    pub fn run_config(&self) -> &ImageConfig {
        &self.config.config
    }

    /// What a pod's status gives as `imageID`: where it was pulled from, else its id.
    pub fn status_id(&self) -> String {
        self.repo_digests
            .first()
            .cloned()
            .unwrap_or_else(|| self.id.to_string())
    }
}

impl Inner {
    /// The images as they are in the index file now.
    pub(crate) fn images(&self) -> Result<Arc<Vec<Arc<Image>>>, ImageError> {
        let stamp = self.index_file.stamp()?;
        let mut cached = self.lock_cached();
        if let Some(known) = cached.as_ref().filter(|known| known.stamp == stamp) {
            return Ok(Arc::clone(&known.images));
        }
        // The stamp is older than the content or as old: at worst it is read once more.
        let index = self.index_file.load()?;
        let known: HashMap<_, _> = cached
            .iter()
            .flat_map(|c| c.images.iter())
            .map(|image| (image.manifest, image))
            .collect();
        let mut images = Vec::with_capacity(index.images.len());
        for (manifest, record) in &index.images {
            let config = match known.get(manifest) {
                Some(image) => Ok(image.config.clone()),
                None => self.read_config(&record.config, record.layers.len()),
            };
            match config {
                Ok(config) => images.push(Arc::new(image(*manifest, record, config))),
                // One damaged image is as good as absent, and must not hide the others.
                Err(error) => tracing::warn!(image = %record.config, %error, "image is damaged"),
            }
        }
        images.sort_by_key(|image| image.id);
        let images = Arc::new(images);
        *cached = Some(Cached {
            stamp,
            images: Arc::clone(&images),
        });
        Ok(images)
    }

    fn lock_cached(&self) -> MutexGuard<'_, Option<Cached>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index under its lock.
    pub(crate) fn change_index(&self, change: impl FnOnce(&mut Index)) -> Result<(), IndexError> {
        let lock = self.index_file.lock()?;
        let before = self.index_file.load()?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        self.index_file.write(&lock, after, &self.blobs.temporary())
    }

    fn remove(&self, name: &str) -> Result<(), ImageError> {
        let images = self.images()?;
        let image = find(&images, name).ok_or_else(|| ImageError::NotFound(name.to_owned()))?;
        let tag = name.parse::<Reference>().map(|r| r.to_string()).ok();
        let by_tag = tag.filter(|tag| image.names.contains(tag));
        self.change_index(|index| {
            index.images.retain(|_, record| {
                let Some(tag) = &by_tag else {
                    return record.config != image.id;
                };
                let tags = record.names.len();
                record.names.retain(|other| other != tag);
                record.names.len() == tags || !record.names.is_empty()
            });
        })?;
        Ok(())
    }

    /// Unpacks the layers of an image again that a power failure took.
    fn restore(self: &Arc<Self>, manifest: Digest) -> Result<(), RootFsError> {
        let failed = |source| RootFsError::Io {
            path: self.root.clone(),
            source,
        };
        let _content = self.content_lock().map_err(failed)?;
        let index = self.index_file.load()?;
        let record = index
            .images
            .get(&manifest)
            .ok_or(RootFsError::NoImage(manifest))?;
        let config = self.read_config(&record.config, record.layers.len())?;
        for (position, blob) in record.layers.iter().enumerate() {
            self.unpack_layer(&config.rootfs.diff_ids, position, blob, &|| false)?;
        }
        self.sync_soon();
        Ok(())
    }

    fn prepare_rootfs(&self, key: &str, manifest: Digest, chain: &[Digest]) -> Result<RootFs, RootFsError> {
        // A removal of the image between here and the lease would collect its snapshots.
        let _lock = self.index_file.lock()?;
        if let Some(missing) = chain.iter().find(|id| !self.snapshots.contains(id)) {
            return Err(RootFsError::NoSnapshot(*missing));
        }
        let lowers = chain.iter().rev().map(|id| self.snapshots.path(id)).collect();
        self.rootfs.prepare(key, manifest, chain, lowers)
    }
}

fn image(manifest: Digest, record: &Record, config: ConfigFile) -> Image {
    Image {
        id: record.config,
        manifest,
        names: record.names.clone(),
        repo_digests: record.repo_digests.clone(),
        size_bytes: record.size_bytes,
        config,
        chain: record.chain.clone(),
    }
}

fn find<'a>(images: &'a [Arc<Image>], name: &str) -> Option<&'a Arc<Image>> {
    if let Ok(digest) = name.parse::<Digest>() {
        return images
            .iter()
            .find(|image| image.id == digest || image.manifest == digest);
    }
    let by_name = name.parse::<Reference>().ok().and_then(|reference| {
        let digest_name = reference.digest().map(|digest| reference.at(digest).to_string());
        let wanted = digest_name.unwrap_or_else(|| reference.to_string());
        images
            .iter()
            .find(|image| image.names.contains(&wanted) || image.repo_digests.contains(&wanted))
    });
    by_name.or_else(|| by_id_prefix(images, name))
}

/// The shortest beginning of an id that is taken for one.
const ID_PREFIX_MIN: usize = 6;

fn by_id_prefix<'a>(images: &'a [Arc<Image>], prefix: &str) -> Option<&'a Arc<Image>> {
    let prefix = prefix.strip_prefix("sha256:").unwrap_or(prefix);
    if prefix.len() < ID_PREFIX_MIN || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut matching = images.iter().filter(|image| image.id.hex().starts_with(prefix));
    let first = matching.next()?;
    // Two manifests of one configuration are the same image; two configurations are a doubt.
    matching.all(|other| other.id == first.id).then_some(first)
}
