//! Importing well-formed images.

use std::io::Cursor;
use std::path::Path;

use cloudeck_image::{ImageConfig, ImportSource};
use serde_json::json;

use crate::archive::{
    LayerBuilder, TestStore, archive, config_file, digest, docker_archive, gzip, hex, manifest,
};

fn reader(bytes: Vec<u8>) -> ImportSource {
    ImportSource::Reader(Box::new(Cursor::new(bytes)))
}

fn two_layers() -> Vec<Vec<u8>> {
    vec![
        LayerBuilder::new()
            .dir("bin/", 0o755)
            .file("bin/app", b"old")
            .file("etc/conf", b"kept")
            .build(),
        LayerBuilder::new().file("bin/app", b"new").build(),
    ]
}

#[tokio::test]
async fn a_docker_archive_is_imported_under_its_name_and_unpacked() {
    let test = TestStore::new();
    let config = json!({ "Entrypoint": ["/bin/app"], "Env": ["A=b"], "User": "7", "WorkingDir": "/srv" });
    let layers = two_layers();
    let images = test
        .store
        .import(reader(docker_archive("app:1", &layers, &config)), None)
        .await
        .unwrap();
    assert_eq!(images.len(), 1);
    let image = test.store.get("app:1").unwrap().unwrap();
    assert_eq!(image, images[0]);
    assert_eq!(image.names, ["docker.io/library/app:1"]);
    assert_eq!(image.id.to_string(), digest(&config_file(&layers, &config)));
    assert_eq!(image.run_config().entrypoint, ["/bin/app"]);
    assert_eq!(
        (
            image.run_config().user.as_str(),
            image.run_config().working_dir.as_str()
        ),
        ("7", "/srv")
    );
    let rootfs = test.store.prepare_rootfs("c1", &image).await.unwrap();
    assert_eq!(rootfs.lowers.len(), 2);
    assert_eq!(std::fs::read(rootfs.lowers[0].join("bin/app")).unwrap(), b"new");
    assert_eq!(std::fs::read(rootfs.lowers[1].join("etc/conf")).unwrap(), b"kept");
    assert_eq!(test.count("tmp"), 0);
}

#[tokio::test]
async fn a_compressed_archive_is_recognised_from_a_file() {
    let test = TestStore::new();
    let path = test.directory.path().join("image.tar.gz");
    std::fs::write(&path, gzip(&docker_archive("app:1", &two_layers(), &json!({})))).unwrap();
    test.store.import(path, Some("other.io/name:2")).await.unwrap();
    assert!(test.store.get("app:1").unwrap().is_none());
    assert!(test.store.get("other.io/name:2").unwrap().is_some());
}

fn write_layout(directory: &Path) {
    let layers = two_layers();
    let compressed: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
    let config = config_file(&layers, &json!({}));
    let manifest = manifest(&config, &compressed);
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for blob in compressed.iter().chain([&config, &manifest]) {
        std::fs::write(blobs.join(hex(blob)), blob).unwrap();
    }
    let index = json!({ "schemaVersion": 2, "manifests": [
        { "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(&manifest), "size": manifest.len(),
          "annotations": { "org.opencontainers.image.ref.name": "reg.io/app:3" } },
    ]});
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
}

#[tokio::test]
async fn an_oci_layout_is_imported_from_a_directory_and_from_an_archive() {
    let layout = tempfile::tempdir().unwrap();
    write_layout(layout.path());
    let from_directory = TestStore::new();
    let images = from_directory
        .store
        .import(layout.path().to_owned(), None)
        .await
        .unwrap();
    assert_eq!(images[0].names, ["reg.io/app:3"]);

    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all("./", layout.path()).unwrap();
    let from_archive = TestStore::new();
    let again = from_archive
        .store
        .import(reader(builder.into_inner().unwrap()), None)
        .await
        .unwrap();
    assert_eq!(again, images);
}

#[tokio::test]
async fn a_layout_blob_that_is_not_its_digest_is_refused() {
    let layout = tempfile::tempdir().unwrap();
    write_layout(layout.path());
    let blobs = std::fs::read_dir(layout.path().join("blobs/sha256")).unwrap();
    for blob in blobs {
        let path = blob.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes.push(0);
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let test = TestStore::new();
    let error = test
        .store
        .import(layout.path().to_owned(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("content has digest"), "{error}");
    assert!(test.store.list().unwrap().is_empty());
}

#[tokio::test]
async fn an_image_without_layers_is_an_image() {
    let test = TestStore::new();
    let images = test
        .store
        .import(reader(docker_archive("empty", &[], &json!({}))), None)
        .await
        .unwrap();
    let rootfs = test.store.prepare_rootfs("c", &images[0]).await.unwrap();
    assert_eq!(std::fs::read_dir(&rootfs.lowers[0]).unwrap().count(), 0);
    assert!(rootfs.upper.is_dir() && rootfs.work.is_dir());
}

#[tokio::test]
async fn an_archive_of_something_else_is_named_as_such() {
    let test = TestStore::new();
    let error = test
        .store
        .import(reader(archive(&[("x", b"y")])), None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("neither an OCI layout nor a docker archive")
    );
    let error = test
        .store
        .import(reader(b"no archive at all".repeat(100)), None)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "image archive cannot be read");
}

#[tokio::test]
async fn a_program_becomes_an_image_and_twice_the_same_one() {
    let test = TestStore::new();
    let program = test.directory.path().join("program");
    std::fs::write(&program, b"#!/bin/true").unwrap();
    let config = ImageConfig {
        entrypoint: vec!["/usr/bin/demo".to_owned(), "serve".to_owned()],
        ..Default::default()
    };
    let image = test
        .store
        .import_single_binary("demo:1", &program, config.clone())
        .await
        .unwrap();
    let again = test
        .store
        .import_single_binary("demo:2", &program, config)
        .await
        .unwrap();
    assert_eq!(again.id, image.id);
    assert_eq!(
        again.names,
        ["docker.io/library/demo:1", "docker.io/library/demo:2"]
    );
    let rootfs = test.store.prepare_rootfs("c", &image).await.unwrap();
    let installed = rootfs.lowers[0].join("usr/bin/demo");
    assert_eq!(std::fs::read(&installed).unwrap(), b"#!/bin/true");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(installed).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o755);
}
