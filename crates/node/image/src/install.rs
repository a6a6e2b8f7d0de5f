//! The last step of every import and pull: content that has arrived becomes an image.
//!
//! Blobs first, synced; then snapshots, which can be made again from them; then the index: whatever it names is complete.

use std::sync::Arc;

use cloudeck_oci::{ConfigFile, Digest};

use crate::blobs::BlobError;
use crate::index::{IndexError, Record};
use crate::snapshots::{SnapshotRequest, chain_ids};
use crate::store::Inner;
use crate::unpack::UnpackError;

/// Manifests and configurations are read into memory; registries refuse larger ones too.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// Content of one image, all of it in the store.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) manifest: Digest,
    pub(crate) config: Digest,
    /// Other documents to keep.
    pub(crate) documents: Vec<Digest>,
    /// Layer blobs with their sizes, lowest first.
    pub(crate) layers: Vec<(Digest, u64)>,
    pub(crate) names: Vec<String>,
    pub(crate) repo_digests: Vec<String>,
}

/// Why content did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("image configuration {0} is malformed")]
    Config(Digest, #[source] serde_json::Error),
    #[error("image is for the operating system {0:?}")]
    OperatingSystem(String),
    #[error("image has {layers} layers, its configuration describes {described}")]
    LayerCount { layers: usize, described: usize },
    #[error("failed to extract layer {diff_id}")]
    Unpack {
        diff_id: Digest,
        #[source]
        source: UnpackError,
    },
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Inner {
    /// Reads a configuration that is in the store and checks it against the number of layers.
    pub(crate) fn read_config(&self, digest: &Digest, layers: usize) -> Result<ConfigFile, InstallError> {
        let bytes = self.blobs.read(digest, DOCUMENT_BYTES_MAX)?;
        let config: ConfigFile =
            serde_json::from_slice(&bytes).map_err(|error| InstallError::Config(*digest, error))?;
        if !matches!(config.os.as_str(), "" | "linux") {
            return Err(InstallError::OperatingSystem(config.os));
        }
        let described = config.rootfs.diff_ids.len();
        if described != layers {
            return Err(InstallError::LayerCount { layers, described });
        }
        Ok(config)
    }

    /// Unpacks the layer at `position`; those below it are unpacked. Blocks.
    pub(crate) fn unpack_layer(
        &self,
        diff_ids: &[Digest],
        position: usize,
        blob: &Digest,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), InstallError> {
        let chain = chain_ids(&diff_ids[..=position]);
        let diff_id = diff_ids[position];
        let request = SnapshotRequest {
            chain: &chain,
            diff_id,
            limits: self.config.limits,
            cancelled,
        };
        let archive = self.blobs.open_blob(blob)?;
        self.snapshots.create(&request, archive).map_err(|source| {
            if matches!(source, UnpackError::DiffId { .. } | UnpackError::Archive(_))
                && let Err(damaged) = self.blobs.recheck(blob)
            {
                return damaged.into();
            }
            InstallError::Unpack { diff_id, source }
        })
    }

    /// Makes an image of what has arrived: unpacks what is not unpacked yet, and records it. Blocks. The caller
    /// holds the content lock, so that nothing is collected meanwhile.
    pub(crate) fn install(
        self: &Arc<Self>,
        arrived: &Arrived,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), InstallError> {
        let config = self.read_config(&arrived.config, arrived.layers.len())?;
        let diff_ids = &config.rootfs.diff_ids;
        for (position, (blob, _)) in arrived.layers.iter().enumerate() {
            self.unpack_layer(diff_ids, position, blob, cancelled)?;
        }
        self.blobs.sync()?;
        let documents = arrived
            .documents
            .iter()
            .chain([&arrived.manifest, &arrived.config]);
        let documents_bytes: u64 = documents.filter_map(|digest| self.blobs.size(digest)).sum();
        let record = Record {
            config: arrived.config,
            documents: arrived.documents.clone(),
            layers: arrived.layers.iter().map(|(digest, _)| *digest).collect(),
            chain: chain_ids(diff_ids),
            size_bytes: documents_bytes + arrived.layers.iter().map(|(_, size)| size).sum::<u64>(),
            names: arrived.names.clone(),
            repo_digests: arrived.repo_digests.clone(),
        };
        self.change_index(|index| index.add(arrived.manifest, record))?;
        self.sync_soon();
        Ok(())
    }
}
