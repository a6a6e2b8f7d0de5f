//! Layers that want out, and layers that only look odd.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cloudeck_image::{ImportError, ImportSource, InstallError, StoreConfig, UnpackError, UnpackLimits};
use rustix::fs::{lgetxattr, major, minor};
use serde_json::json;
use tar::EntryType;

use crate::archive::{LayerBuilder, TestStore, docker_archive, gzip};

async fn import(test: &TestStore, layers: &[Vec<u8>]) -> Result<Vec<PathBuf>, UnpackError> {
    let source = ImportSource::Reader(Box::new(Cursor::new(docker_archive("x", layers, &json!({})))));
    match test.store.import(source, None).await {
        Ok(images) => Ok(test.store.prepare_rootfs("c", &images[0]).await.unwrap().lowers),
        Err(ImportError::Install(InstallError::Unpack { source, .. })) => Err(source),
        Err(other) => panic!("{other}"),
    }
}

/// Unpacks one layer over others (lowest first) and gives the directories, top first.
async fn unpack(layers: Vec<LayerBuilder>) -> Result<(TestStore, Vec<PathBuf>), UnpackError> {
    let test = TestStore::new();
    let layers: Vec<_> = layers.into_iter().map(LayerBuilder::build).collect();
    let lowers = import(&test, &layers).await?;
    Ok((test, lowers))
}

async fn refused(layer: LayerBuilder) -> String {
    match unpack(vec![layer]).await {
        Ok(_) => panic!("was unpacked"),
        Err(error) => error.to_string(),
    }
}

fn is_whiteout(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path).unwrap();
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = [0; 256];
    lgetxattr(path, name, &mut value)
        .ok()
        .map(|length| value[..length].to_vec())
}

#[tokio::test]
async fn paths_that_leave_the_root_are_refused() {
    for path in ["../evil", "a/../../evil", "/../evil", "../.wh.evil"] {
        let error = refused(LayerBuilder::new().file(path, b"x")).await;
        assert!(
            error.ends_with("leads out of the root file system"),
            "{path}: {error}"
        );
    }
    for path in [".wh.", ".wh...", "a/.wh.."] {
        let error = refused(LayerBuilder::new().file(path, b"x")).await;
        assert!(error.ends_with("is not usable as a file name"), "{path}: {error}");
    }
}

#[tokio::test]
async fn absolute_paths_are_taken_from_the_layers_root() {
    let (_test, lowers) = unpack(vec![LayerBuilder::new().file("/etc/cloudeck-absolute", b"x")])
        .await
        .unwrap();
    assert_eq!(fs::read(lowers[0].join("etc/cloudeck-absolute")).unwrap(), b"x");
    assert!(!Path::new("/etc/cloudeck-absolute").exists());
}

#[tokio::test]
async fn a_link_out_leads_to_a_place_inside() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().display().to_string();
    let layer = LayerBuilder::new()
        .symlink("absolute", &target)
        .symlink("relative", "../../../../../../../../../..")
        .file("absolute/evil", b"1")
        .file("relative/evil", b"2")
        .symlink("magic", "/proc/self/root")
        .file("magic/evil", b"3");
    let (_test, lowers) = unpack(vec![layer]).await.unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(
        fs::read(lowers[0].join(target.trim_start_matches('/')).join("evil")).unwrap(),
        b"1"
    );
    assert_eq!(fs::read(lowers[0].join("evil")).unwrap(), b"2");
    assert_eq!(fs::read(lowers[0].join("proc/self/root/evil")).unwrap(), b"3");
}

#[tokio::test]
async fn a_file_over_a_link_replaces_the_link_and_not_its_target() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, b"host").unwrap();
    let layer = LayerBuilder::new()
        .symlink("link", &victim.display().to_string())
        .file("link", b"evil");
    let (_test, lowers) = unpack(vec![layer]).await.unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"host");
    assert_eq!(fs::read(lowers[0].join("link")).unwrap(), b"evil");
}

#[tokio::test]
async fn hard_links_reach_only_what_the_image_has() {
    for target in ["/etc/passwd", "out/passwd", "missing"] {
        let layer = LayerBuilder::new()
            .symlink("out", "/etc")
            .hard_link("copy", target);
        let error = refused(layer).await;
        assert!(error.ends_with("which is not a file"), "{target}: {error}");
    }
    let error = refused(LayerBuilder::new().hard_link("copy", "../../etc/passwd")).await;
    assert!(error.ends_with("leads out of the root file system"), "{error}");
    let error = refused(LayerBuilder::new().dir("d", 0o755).hard_link("copy", "d")).await;
    assert!(error.ends_with("which is not a file"), "{error}");
}

#[tokio::test]
async fn hard_links_share_their_file_and_may_name_one_of_a_lower_layer() {
    let lower = LayerBuilder::new().raw(EntryType::Regular, "bin/tool", "", 0o4755, b"tool");
    let upper = LayerBuilder::new()
        .file("one", b"1")
        .hard_link("two", "one")
        .hard_link("two", "two")
        .hard_link("bin/alias", "bin/tool");
    let (_test, lowers) = unpack(vec![lower, upper]).await.unwrap();
    let ino = |path: &str| fs::symlink_metadata(lowers[0].join(path)).unwrap().ino();
    assert_eq!(ino("one"), ino("two"));
    assert_eq!(ino("bin/alias"), ino("bin/tool"));
    let metadata = fs::metadata(lowers[0].join("bin/alias")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o4755, 4));
    assert_ne!(
        fs::metadata(lowers[1].join("bin/tool")).unwrap().ino(),
        ino("bin/tool")
    );
}

#[tokio::test]
async fn whiteouts_become_marks_of_overlayfs() {
    let lower = LayerBuilder::new()
        .file("gone", b"1")
        .file("dir/old", b"2")
        .file("emptied/old", b"3");
    let upper = LayerBuilder::new()
        .file(".wh.gone", b"")
        .file(".wh.dir", b"")
        .file("emptied/.wh..wh..opq", b"")
        .file(".wh..wh.plnk", b"");
    let (_test, lowers) = unpack(vec![lower, upper]).await.unwrap();
    assert!(is_whiteout(&lowers[0].join("gone")));
    assert!(is_whiteout(&lowers[0].join("dir")));
    assert_eq!(
        xattr(&lowers[0].join("emptied"), "trusted.overlay.opaque"),
        Some(b"y".to_vec())
    );
    assert_eq!(fs::read_dir(&lowers[0]).unwrap().count(), 3);
}

#[tokio::test]
async fn a_whiteout_never_hides_what_its_own_layer_brings() {
    let lower = || LayerBuilder::new().file("dir/old", b"1").file("file", b"1");
    let before = LayerBuilder::new()
        .file(".wh.dir", b"")
        .file("dir/new", b"2")
        .file(".wh.file", b"")
        .file("file", b"2");
    let after = LayerBuilder::new()
        .file("dir/new", b"2")
        .file(".wh.dir", b"")
        .file("file", b"2")
        .file(".wh.file", b"");
    for upper in [before, after] {
        let (_test, lowers) = unpack(vec![lower(), upper]).await.unwrap();
        assert_eq!(
            xattr(&lowers[0].join("dir"), "trusted.overlay.opaque"),
            Some(b"y".to_vec())
        );
        assert_eq!(fs::read(lowers[0].join("dir/new")).unwrap(), b"2");
        assert_eq!(fs::read(lowers[0].join("file")).unwrap(), b"2");
    }
}

#[tokio::test]
async fn attributes_that_steer_overlayfs_are_not_taken_from_an_archive() {
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = LayerBuilder::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.metacopy", b""),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"kept"),
        ])
        .file("ping", b"x");
    let (_test, lowers) = unpack(vec![layer]).await.unwrap();
    let file = lowers[0].join("ping");
    assert_eq!(xattr(&file, "trusted.overlay.redirect"), None);
    assert_eq!(xattr(&file, "trusted.overlay.metacopy"), None);
    assert_eq!(xattr(&file, "user.overlay.opaque"), None);
    assert_eq!(xattr(&file, "security.capability").as_deref(), Some(capability));
    assert_eq!(xattr(&file, "user.note"), Some(b"kept".to_vec()));
}

#[tokio::test]
async fn modes_owners_and_times_survive() {
    let layer = LayerBuilder::new()
        .pax(&[("uid", b"1000"), ("gid", b"100000"), ("mtime", b"1000000000.5")])
        .raw(EntryType::Regular, "bin/su", "", 0o6755, b"su")
        .dir("bin/", 0o1777)
        .file("bin/later", b"x")
        .dir("./", 0o711);
    let (_test, lowers) = unpack(vec![layer]).await.unwrap();
    let file = fs::metadata(lowers[0].join("bin/su")).unwrap();
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.gid()),
        (0o6755, 1000, 100_000)
    );
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_000_000_000, 500_000_000));
    let directory = fs::metadata(lowers[0].join("bin")).unwrap();
    assert_eq!(
        (directory.mode() & 0o7777, directory.mtime()),
        (0o1777, 1_234_567_890)
    );
    assert_eq!(
        fs::metadata(&lowers[0]).unwrap().permissions().mode() & 0o7777,
        0o711
    );
}

#[tokio::test]
async fn the_upper_directory_has_the_attributes_of_the_images_root() {
    let test = TestStore::new();
    let layers = [LayerBuilder::new().dir("./", 0o711).file("x", b"x").build()];
    let source = ImportSource::Reader(Box::new(Cursor::new(docker_archive("x", &layers, &json!({})))));
    let image = test.store.import(source, None).await.unwrap().remove(0);
    let rootfs = test.store.prepare_rootfs("c", &image).await.unwrap();
    assert_eq!(
        fs::metadata(rootfs.upper).unwrap().permissions().mode() & 0o7777,
        0o711
    );
}

#[tokio::test]
async fn devices_and_pipes_are_created_as_such() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Char);
    header.set_path("dev-null").unwrap();
    header.set_mode(0o666);
    header.set_size(0);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b""[..]).unwrap();
    header.set_entry_type(EntryType::Fifo);
    header.set_path("pipe").unwrap();
    header.set_cksum();
    builder.append(&header, &b""[..]).unwrap();
    let test = TestStore::new();
    let lowers = import(&test, &[builder.into_inner().unwrap()]).await.unwrap();
    let device = fs::symlink_metadata(lowers[0].join("dev-null")).unwrap();
    assert!(device.file_type().is_char_device());
    assert_eq!(
        (major(device.rdev()), minor(device.rdev()), device.mode() & 0o777),
        (1, 3, 0o666)
    );
    assert!(
        fs::symlink_metadata(lowers[0].join("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
}

#[tokio::test]
async fn later_entries_replace_earlier_ones_of_any_kind() {
    let layer = LayerBuilder::new()
        .file("x", b"1")
        .file("x", b"2")
        .file("y/deep/er", b"1")
        .file("y", b"now a file")
        .file("z", b"1")
        .dir("z", 0o755)
        .file("z/inside", b"2");
    let (test, lowers) = unpack(vec![layer]).await.unwrap();
    assert_eq!(fs::read(lowers[0].join("x")).unwrap(), b"2");
    assert_eq!(fs::read(lowers[0].join("y")).unwrap(), b"now a file");
    assert_eq!(fs::read(lowers[0].join("z/inside")).unwrap(), b"2");
    assert_eq!(test.count("tmp"), 0);
}

#[tokio::test]
async fn directories_that_a_layer_implies_are_those_of_the_layers_below() {
    let lower = LayerBuilder::new()
        .dir("tmp/", 0o1777)
        .dir("usr/bin/", 0o750)
        .symlink("bin", "usr/bin")
        .file("gone/x", b"1");
    let middle = LayerBuilder::new().file(".wh.gone", b"");
    let upper = LayerBuilder::new()
        .file("tmp/file", b"x")
        .file("bin/tool", b"y")
        .file("gone/new", b"z");
    let (_test, lowers) = unpack(vec![lower, middle, upper]).await.unwrap();
    let mode = |path: &str| fs::metadata(lowers[0].join(path)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("tmp"), mode("usr/bin"), mode("gone")),
        (0o1777, 0o750, 0o755)
    );
    assert_eq!(fs::read(lowers[0].join("usr/bin/tool")).unwrap(), b"y");
    assert!(fs::symlink_metadata(lowers[0].join("bin")).is_err());
}

#[tokio::test]
async fn a_path_through_a_file_or_in_circles_is_refused() {
    let error = refused(LayerBuilder::new().file("f", b"x").file("f/x", b"x")).await;
    assert!(
        error.ends_with("passes through something that is not a directory"),
        "{error}"
    );
    let error = refused(
        LayerBuilder::new()
            .symlink("a", "b")
            .symlink("b", "a")
            .file("a/x", b"x"),
    )
    .await;
    assert!(
        error.ends_with("passes through too many symbolic links"),
        "{error}"
    );
    let deep = (0..40).map(|_| "d/").collect::<String>();
    let layer = (0..10).fold(LayerBuilder::new(), |layer, n| {
        // Each link leads deeper than the last, so that short paths make an endless tree.
        let (link, at) = (
            format!("l{n}"),
            if n == 0 {
                String::new()
            } else {
                format!("l{}/", n - 1)
            },
        );
        layer
            .file(&format!("{at}{deep}x"), b"x")
            .symlink(&link, &format!("{at}{deep}"))
    });
    let error = refused(layer).await;
    assert!(error.ends_with("is nested too deeply"), "{error}");
}

#[tokio::test]
async fn a_small_archive_that_unpacks_to_much_is_stopped() {
    let config = |limits| StoreConfig {
        limits,
        ..StoreConfig::default()
    };
    let test = TestStore::with(config(UnpackLimits {
        size_bytes: 1 << 20,
        entries: 10,
    }));
    let layers = [LayerBuilder::new().file("zeros", &vec![0; 8 << 20]).build()];
    let bomb = gzip(&docker_archive("x", &layers, &json!({})));
    assert!(bomb.len() < 100_000);
    let error = test
        .store
        .import(ImportSource::Reader(Box::new(Cursor::new(bomb))), None)
        .await
        .unwrap_err();
    let ImportError::Install(InstallError::Unpack {
        source: UnpackError::TooLarge(limit),
        ..
    }) = error
    else {
        panic!("{error}");
    };
    assert_eq!(limit, 1 << 20);
    let many = (0..20)
        .fold(LayerBuilder::new(), |layer, n| layer.file(&format!("f{n}"), b""))
        .build();
    assert!(matches!(
        import(&test, &[many]).await,
        Err(UnpackError::TooManyEntries(10))
    ));
    assert_eq!((test.count("snapshots"), test.count("tmp")), (0, 0));
}

#[tokio::test]
async fn an_archive_of_images_has_a_limit_too() {
    let test = TestStore::with(StoreConfig {
        image_bytes_max: 1 << 20,
        ..StoreConfig::default()
    });
    let bomb = gzip(&crate::archive::archive(&[("index.json", &vec![b' '; 4 << 20])]));
    let error = test
        .store
        .import(ImportSource::Reader(Box::new(Cursor::new(bomb))), None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ImportError::TooLarge(limit) if limit == 1 << 20),
        "{error}"
    );
    assert_eq!(test.count("tmp"), 0);
}

#[tokio::test]
async fn copies_of_lower_files_count_as_unpacked() {
    let test = TestStore::with(StoreConfig {
        limits: UnpackLimits {
            size_bytes: 100_000,
            entries: 1000,
        },
        ..StoreConfig::default()
    });
    let lower = LayerBuilder::new().file("big", &vec![7; 60_000]).build();
    let upper = LayerBuilder::new()
        .hard_link("a", "big")
        .file("big", b"")
        .file(".wh.big", b"");
    let upper = upper.hard_link("b", "big").build();
    import(&test, &[lower.clone(), upper]).await.unwrap();
    let two = LayerBuilder::new().file("other", &vec![7; 60_000]).build();
    let both = LayerBuilder::new()
        .hard_link("a", "big")
        .hard_link("b", "other")
        .build();
    assert!(matches!(
        import(&test, &[lower, two, both]).await,
        Err(UnpackError::TooLarge(_))
    ));
}

#[tokio::test]
async fn strangers_on_the_host_cannot_reach_a_layer() {
    let (test, _lowers) = unpack(vec![LayerBuilder::new().file("x", b"x")]).await.unwrap();
    for directory in ["snapshots", "rootfs", "tmp", "blobs"] {
        let mode = fs::metadata(test.directory.path().join(directory))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{directory}");
    }
}
