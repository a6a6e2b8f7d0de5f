//! Layers and archives made in memory, well-formed and not.

use std::io::Write;

use cloudeck_image::{ImageStore, StoreConfig};
use cloudeck_task::Scope;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::EntryType;

/// A store of its own directory.
pub(crate) struct TestStore {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: ImageStore,
    pub(crate) scope: Scope,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with(StoreConfig::default())
    }

    pub(crate) fn with(config: StoreConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let scope = Scope::root("test");
        let store = ImageStore::open(directory.path(), config, &scope).unwrap();
        Self {
            directory,
            store,
            scope,
        }
    }

    /// Opens the same directory once more, as another process would.
    pub(crate) fn reopen(&self) -> ImageStore {
        ImageStore::open(self.directory.path(), StoreConfig::default(), &self.scope).unwrap()
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        std::fs::read_dir(self.directory.path().join(what))
            .unwrap()
            .count()
    }
}

/// Writes a layer entry by entry; names are put into the header as they are.
pub(crate) struct LayerBuilder(tar::Builder<Vec<u8>>);

impl LayerBuilder {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn raw(mut self, kind: EntryType, path: &str, link: &str, mode: u32, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_234_567_890);
        header.set_size(data.len() as u64);
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub(crate) fn dir(self, path: &str, mode: u32) -> Self {
        self.raw(EntryType::Directory, path, "", mode, b"")
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.raw(EntryType::Regular, path, "", 0o644, data)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, path, target, 0o777, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Link, path, target, 0o644, b"")
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    cloudeck_oci::Digest::from_bytes(digest).hex()
}

/// A configuration file for layers in their uncompressed form.
pub(crate) fn config_file(layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
    let architecture = cloudeck_oci::Platform::host().architecture;
    json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
    .into_bytes()
}

/// A manifest; layers as they are transferred.
pub(crate) fn manifest(config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    let layer = |bytes: &Vec<u8>| {
        json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest(bytes), "size": bytes.len() })
    };
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest(config), "size": config.len() },
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes()
}

/// An archive of files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What `docker save` of old writes.
pub(crate) fn docker_archive(name: &str, layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let config = config_file(layers, config);
    let config_name = format!("{}.json", hex(&config));
    let names: Vec<_> = layers
        .iter()
        .map(|layer| format!("{}/layer.tar", hex(layer)))
        .collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": names }]).to_string();
    let mut files: Vec<(&str, &[u8])> = vec![("manifest.json", manifest.as_bytes()), (&config_name, &config)];
    files.extend(
        names
            .iter()
            .map(String::as_str)
            .zip(layers.iter().map(Vec::as_slice)),
    );
    archive(&files)
}
