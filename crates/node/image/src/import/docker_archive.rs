//! What `docker save` writes: `manifest.json` with configurations and uncompressed layers beside it.

use std::collections::BTreeMap;

use cloudeck_oci::{Descriptor, Manifest, Reference, media_type};
use serde::Deserialize;

use super::content::Content;
use super::{ImportError, parse_name};
use crate::install::Arrived;

pub(super) const MANIFEST: &str = "manifest.json";

/// One member of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

impl SavedImage {
    pub(super) fn names(&self) -> Result<Vec<String>, ImportError> {
        let tags = self.repo_tags.iter().flatten();
        tags.map(|tag| parse_name(tag).map(|reference: Reference| reference.to_string()))
            .collect()
    }
}

pub(super) fn read(content: &Content<'_>) -> Result<Vec<Arrived>, ImportError> {
    if !content.contains(MANIFEST) {
        return Err(ImportError::UnknownFormat);
    }
    let saved: Vec<SavedImage> = content.document(MANIFEST)?;
    saved.iter().map(|image| read_image(content, image)).collect()
}

/// A docker archive has no manifest in the registry's sense, so one is made; it is the same for the same content.
fn read_image(content: &Content<'_>, saved: &SavedImage) -> Result<Arrived, ImportError> {
    let (config, config_size) = content.commit(&saved.config)?;
    let layers = saved.layers.iter().flatten().map(|path| content.commit(path));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let descriptor = |media_type: &str, digest, size| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        annotations: BTreeMap::new(),
        platform: None,
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_owned(),
        config: descriptor(media_type::OCI_CONFIG, config, config_size),
        layers: layers
            .iter()
            .map(|(digest, size)| descriptor(media_type::OCI_LAYER, *digest, *size))
            .collect(),
        annotations: BTreeMap::new(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("a manifest always serialises");
    Ok(Arrived {
        manifest: content.put(&bytes)?,
        config,
        documents: Vec::new(),
        layers,
        names: saved.names()?,
        repo_digests: Vec::new(),
    })
}
