//! The OCI image layout: `index.json` and blobs by digest. `docker save` writes one too, with names elsewhere.

use std::collections::BTreeMap;

use cloudeck_oci::{Descriptor, Digest, Document, Index, Manifest, Platform, Reference};

use super::content::Content;
use super::docker_archive::{MANIFEST, SavedImage};
use super::{ImportError, parse_name};
use crate::blobs::BlobError;
use crate::install::Arrived;

pub(super) const INDEX: &str = "index.json";
/// Where names stand, in order of preference: the full one that containerd and Docker write, then the standard's, which
/// often is only a tag.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// Index in index in index: more is a loop.
const NESTING_MAX: usize = 4;

pub(super) fn read(content: &Content<'_>) -> Result<Vec<Arrived>, ImportError> {
    let index: Index = content.document(INDEX)?;
    let saved: Vec<SavedImage> = if content.contains(MANIFEST) {
        content.document(MANIFEST)?
    } else {
        Vec::new()
    };
    let mut by_name: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
    for descriptor in index.manifests {
        by_name
            .entry(stated_name(&descriptor))
            .or_default()
            .push(descriptor);
    }
    let groups = by_name.into_iter().map(|(name, manifests)| {
        let group = Index {
            schema_version: 2,
            media_type: String::new(),
            manifests,
        };
        let mut arrived = read_image(content, &group)?;
        arrived.names = match name {
            Some(name) => vec![name],
            None => saved_names(&saved, &arrived.config)?,
        };
        Ok(arrived)
    });
    groups.collect()
}

/// A name without a registry and path (`latest`) names nothing outside its layout.
fn stated_name(descriptor: &Descriptor) -> Option<String> {
    let full = |text: &&String| text.contains('/') || text.contains(':');
    let mut stated = NAME_ANNOTATIONS
        .iter()
        .filter_map(|key| descriptor.annotations.get(*key))
        .filter(full);
    stated
        .find_map(|text| parse_name(text).ok())
        .map(|reference: Reference| reference.to_string())
}

/// The names that `manifest.json` states for the image of a configuration.
fn saved_names(saved: &[SavedImage], config: &Digest) -> Result<Vec<String>, ImportError> {
    let of_config = saved.iter().filter(|image| image.config.contains(&config.hex()));
    let names = of_config.map(SavedImage::names).collect::<Result<Vec<_>, _>>()?;
    Ok(names.concat())
}

fn read_image(content: &Content<'_>, group: &Index) -> Result<Arrived, ImportError> {
    let platform = Platform::host();
    let mut documents = Vec::new();
    let mut index = group.clone();
    for _ in 0..NESTING_MAX {
        let selected = index
            .select(&platform)
            .ok_or_else(|| ImportError::Platform(platform.clone()))?
            .clone();
        let bytes = content.bytes(&blob_path(&selected.digest))?;
        let parsed = Document::parse(&bytes, Some(&selected.media_type))
            .map_err(|source| ImportError::Manifest(selected.digest, source))?;
        commit(content, &selected.digest, selected.size)?;
        match parsed {
            Document::Manifest(manifest) => {
                return commit_image(content, selected.digest, &manifest, documents);
            }
            Document::Index(inner) => {
                documents.push(selected.digest);
                index = inner;
            }
        }
    }
    Err(ImportError::Platform(platform))
}

fn commit_image(
    content: &Content<'_>,
    digest: Digest,
    manifest: &Manifest,
    documents: Vec<Digest>,
) -> Result<Arrived, ImportError> {
    commit(content, &manifest.config.digest, manifest.config.size)?;
    for layer in &manifest.layers {
        commit(content, &layer.digest, layer.size)?;
    }
    Ok(Arrived {
        manifest: digest,
        config: manifest.config.digest,
        documents,
        layers: manifest
            .layers
            .iter()
            .map(|layer| (layer.digest, layer.size))
            .collect(),
        names: Vec::new(),
        repo_digests: Vec::new(),
    })
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Stores a blob under the digest it really has, which must be the one stated.
fn commit(content: &Content<'_>, expected: &Digest, size: u64) -> Result<(), ImportError> {
    let (found, found_size) = content.commit(&blob_path(expected))?;
    if found != *expected {
        return Err(BlobError::Digest {
            expected: *expected,
            found,
        }
        .into());
    }
    if found_size != size {
        return Err(BlobError::Size {
            expected: size,
            found: found_size,
        }
        .into());
    }
    Ok(())
}
