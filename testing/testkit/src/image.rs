//! Images made in memory, as `docker save` writes them, for import in tests.

use std::io::{self, Cursor};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The archive of one layer: path, mode and content of each file. A path that ends in a slash is a directory.
pub fn layer(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let kind = if path.ends_with('/') {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        };
        append(&mut builder, kind, path, *mode, content).expect("writing to memory cannot fail");
    }
    builder.into_inner().expect("writing to memory cannot fail")
}

/// A docker archive of one image. `config` holds the member `config` of the configuration file (`Entrypoint`, `Env`…).
pub fn docker_archive(name: &str, layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", hex(layer)))
        .collect();
    let config_file = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config_file = config_file.to_string().into_bytes();
    let config_name = format!("{}.json", hex(&config_file));
    let layer_names: Vec<_> = layers
        .iter()
        .map(|layer| format!("{}/layer.tar", hex(layer)))
        .collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": layer_names }]).to_string();
    let members = layer_names
        .iter()
        .map(String::as_str)
        .zip(layers.iter().map(Vec::as_slice));
    let members = members.chain([
        (config_name.as_str(), config_file.as_slice()),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in members {
        append(&mut builder, tar::EntryType::Regular, path, 0o644, content)
            .expect("writing to memory cannot fail");
    }
    builder.into_inner().expect("writing to memory cannot fail")
}

/// A docker archive of an image `FROM scratch` whose only file is `/app`, the program at `path`, which it runs.
pub fn scratch_from_binary(name: &str, path: &Path) -> io::Result<Vec<u8>> {
    let program = std::fs::read(path)?;
    let layers = [layer(&[("app", 0o755, &program)])];
    Ok(docker_archive(name, &layers, &json!({ "Entrypoint": ["/app"] })))
}

fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, path, Cursor::new(content))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_manifest_configuration_and_layers() {
        let archive = docker_archive(
            "x:1",
            &[layer(&[("bin/", 0o755, b""), ("bin/x", 0o755, b"1")])],
            &json!({}),
        );
        let mut archive = tar::Archive::new(archive.as_slice());
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths.len(), 3);
        assert!(paths[0].ends_with("/layer.tar"));
        assert_eq!(paths[2], "manifest.json");
    }
}
