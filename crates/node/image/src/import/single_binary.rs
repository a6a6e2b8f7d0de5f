//! An image of one program and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use cloudeck_oci::config::RootFsLayers;
use cloudeck_oci::{ConfigFile, Descriptor, ImageConfig, Manifest, Platform, Reference, media_type};

use super::ImportError;
use crate::install::Arrived;
use crate::store::Inner;

const BLOCK: u64 = 512;
/// The name field of a header, less the slash of a directory.
const PATH_LENGTH_MAX: usize = 99;

/// Stores layer, configuration and manifest. The same program gives the same digests: no times, no names of ours.
pub(super) fn make(
    inner: &Inner,
    name: &Reference,
    program: &Path,
    mut config: ImageConfig,
) -> Result<Arrived, ImportError> {
    let inside = inside_path(program, &config)?;
    if config.entrypoint.is_empty() {
        config.entrypoint = vec![format!("/{inside}")];
    }
    let failed = |source| ImportError::Open {
        path: program.to_owned(),
        source,
    };
    let file = File::open(program).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let layer = inner.blobs.stage(&mut archive(&inside, file, size))?;
    let (layer_digest, layer_size) = (layer.digest, layer.size);
    layer.commit()?;
    let platform = Platform::host();
    let config_file = ConfigFile {
        architecture: platform.architecture,
        os: platform.os,
        config,
        rootfs: RootFsLayers {
            kind: "layers".to_owned(),
            diff_ids: vec![layer_digest],
        },
        ..ConfigFile::default()
    };
    let config_bytes = serde_json::to_vec(&config_file).expect("a configuration always serialises");
    let config_digest = inner.blobs.put(&config_bytes)?;
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
        config: descriptor(media_type::OCI_CONFIG, config_digest, config_bytes.len() as u64),
        layers: vec![descriptor(media_type::OCI_LAYER, layer_digest, layer_size)],
        annotations: BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).expect("a manifest always serialises");
    Ok(Arrived {
        manifest: inner.blobs.put(&manifest)?,
        config: config_digest,
        documents: Vec::new(),
        layers: vec![(layer_digest, layer_size)],
        names: vec![name.to_string()],
        repo_digests: Vec::new(),
    })
}

/// Where the program stands, without the leading slash.
fn inside_path(program: &Path, config: &ImageConfig) -> Result<String, ImportError> {
    let stated = config.entrypoint.first().filter(|path| path.starts_with('/'));
    let path = match stated {
        Some(path) => path.trim_start_matches('/').to_owned(),
        None => program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
    };
    let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain && path.len() <= PATH_LENGTH_MAX {
        Ok(path)
    } else {
        Err(ImportError::ProgramPath(path))
    }
}

/// The layer as a stream: the directories above the program, the program, the end mark.
fn archive(path: &str, program: File, size: u64) -> impl Read {
    let mut start = Vec::new();
    for (slash, _) in path.match_indices('/') {
        start.extend(header(&path[..=slash], 0, b'5'));
    }
    start.extend(header(path, size, b'0'));
    let fill = size.next_multiple_of(BLOCK) - size + 2 * BLOCK;
    io::Cursor::new(start)
        .chain(program.take(size))
        .chain(io::repeat(0).take(fill))
}

/// A ustar header of root's, mode 0755, at time zero.
fn header(path: &str, size: u64, kind: u8) -> [u8; BLOCK as usize] {
    let mut block = [0; BLOCK as usize];
    let mut set = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    set(0, path);
    set(100, "0000755\0");
    set(108, "0000000\0");
    set(116, "0000000\0");
    if size < 1 << 33 {
        set(124, &format!("{size:011o}\0"));
    }
    set(136, "00000000000\0");
    set(148, "        ");
    set(257, "ustar\x0000");
    if size >= 1 << 33 {
        // Too large for eleven octal digits: binary, marked by the first bit.
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[156] = kind;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
