//! Brings images in from files: OCI layouts (archive or directory), docker archives, and single programs.
//!
//! An archive is read once from front to back, since it may come through a pipe: each member is staged under its digest,
//! and what the image turns out to consist of is then given its name; the rest vanishes.

mod content;
mod docker_archive;
mod layout;
mod single_binary;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloudeck_oci::{Digest, ImageConfig, ParseManifestError, ParseReferenceError, Platform, Reference};

use crate::blobs::BlobError;
use crate::install::{Arrived, InstallError};
use crate::store::{Image, ImageError, ImageStore, Inner};
use crate::unpack::UnpackError;
use content::Content;

/// Where an image is imported from.
pub enum ImportSource {
    /// An archive file, or the directory of an OCI layout.
    Path(PathBuf),
    /// An archive as it arrives.
    Reader(Box<dyn Read + Send>),
}

impl From<PathBuf> for ImportSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("reading {path} failed")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("image archive cannot be read")]
    Archive(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "archive is neither an OCI layout nor a docker archive (it has no index.json and no manifest.json)"
    )]
    UnknownFormat,
    #[error("image archive document {name} is malformed")]
    Document {
        name: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("image archive document {0} is not a manifest")]
    Manifest(Digest, #[source] ParseManifestError),
    #[error("image archive lacks {0}")]
    Missing(String),
    #[error("image archive has no image for {0}")]
    Platform(Platform),
    #[error("image archive has no image")]
    Empty,
    #[error("a name was given, but the archive has {0} images")]
    Ambiguous(usize),
    #[error("image name {name:?} is not usable")]
    Name {
        name: String,
        #[source]
        source: ParseReferenceError,
    },
    #[error("program path {0:?} is not usable in an image")]
    ProgramPath(String),
    #[error("image archive unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("import was cancelled")]
    Cancelled,
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl ImportError {
    fn archive(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Archive(Box::new(error))
    }
}

impl From<UnpackError> for ImportError {
    fn from(error: UnpackError) -> Self {
        Self::archive(error)
    }
}

impl ImageStore {
    /// Imports all images of an archive or layout under the names it states. With `name`, its only image gets
    /// that name instead.
    ///
    /// Cancel safety: dropped, the import stops at the next piece of data and leaves nothing.
    pub async fn import(
        &self,
        source: impl Into<ImportSource>,
        name: Option<&str>,
    ) -> Result<Vec<Arc<Image>>, ImportError> {
        let name = name.map(parse_name).transpose()?;
        let source = source.into();
        self.import_with(move |inner, cancelled| {
            let content = open(inner, source, cancelled)?;
            let mut images = if content.contains(layout::INDEX) {
                layout::read(&content)?
            } else {
                docker_archive::read(&content)?
            };
            match (name, images.as_mut_slice()) {
                (_, []) => return Err(ImportError::Empty),
                (Some(name), [image]) => image.names = vec![name.to_string()],
                (Some(_), several) => return Err(ImportError::Ambiguous(several.len())),
                (None, _) => {}
            }
            Ok(images)
        })
        .await
    }

    /// Makes an image `FROM scratch` of one program. It stands where the entrypoint says, else in the root under its
    /// own name, which then is the entrypoint. Done again with the same program, it changes nothing.
    pub async fn import_single_binary(
        &self,
        name: &str,
        program: impl Into<PathBuf>,
        config: ImageConfig,
    ) -> Result<Arc<Image>, ImportError> {
        let name = parse_name(name)?;
        let program = program.into();
        let make = move |inner: &Inner, _: &dyn Fn() -> bool| {
            single_binary::make(inner, &name, &program, config).map(|image| vec![image])
        };
        Ok(self.import_with(make).await?.remove(0))
    }

    async fn import_with<F>(&self, bring: F) -> Result<Vec<Arc<Image>>, ImportError>
    where
        F: FnOnce(&Inner, &dyn Fn() -> bool) -> Result<Vec<Arrived>, ImportError> + Send + 'static,
    {
        let cancel = CancelOnDrop::default();
        let flag = Arc::clone(&cancel.0);
        self.blocking(move |inner| {
            let cancelled = || flag.load(Ordering::Relaxed);
            let lock = inner.content_lock();
            let _content = lock.map_err(|source| ImportError::Open {
                path: inner.root.clone(),
                source,
            })?;
            let arrived = bring(inner, &cancelled)?;
            for image in &arrived {
                inner.install(image, &cancelled)?;
            }
            let images = inner.images()?;
            let imported = arrived.iter().map(|image| {
                let found = images.iter().find(|other| other.manifest == image.manifest);
                found
                    .cloned()
                    .ok_or_else(|| ImportError::Missing(image.manifest.to_string()))
            });
            imported.collect()
        })
        .await
    }
}

/// Tells blocking work that nobody waits for it any more.
#[derive(Default)]
pub(crate) struct CancelOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn parse_name(name: &str) -> Result<Reference, ImportError> {
    name.parse().map_err(|source| ImportError::Name {
        name: name.to_owned(),
        source,
    })
}

fn open<'a>(
    inner: &'a Inner,
    source: ImportSource,
    cancelled: &dyn Fn() -> bool,
) -> Result<Content<'a>, ImportError> {
    let limit = inner.config.image_bytes_max;
    match source {
        ImportSource::Reader(reader) => Content::from_archive(&inner.blobs, reader, limit, cancelled),
        ImportSource::Path(path) if path.is_dir() => Ok(Content::from_directory(&inner.blobs, path)),
        ImportSource::Path(path) => match File::open(&path) {
            Ok(file) => Content::from_archive(&inner.blobs, file, limit, cancelled),
            Err(source) => Err(ImportError::Open { path, source }),
        },
    }
}
