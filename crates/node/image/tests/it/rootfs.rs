//! Names, root file systems, and what is collected when.

use std::io::Cursor;

use cloudeck_image::{Image, ImportSource, RootFsError};
use serde_json::json;
use std::sync::Arc;

use crate::archive::{LayerBuilder, TestStore, docker_archive};

async fn import(test: &TestStore, name: &str, content: &[u8]) -> Arc<Image> {
    let layers = [LayerBuilder::new().file("file", content).build()];
    let source = ImportSource::Reader(Box::new(Cursor::new(docker_archive(name, &layers, &json!({})))));
    test.store.import(source, None).await.unwrap().remove(0)
}

#[tokio::test]
async fn images_are_found_by_name_id_manifest_and_beginning_of_an_id() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"1").await;
    let id = image.id.to_string();
    for name in [
        "app:1",
        "docker.io/library/app:1",
        &id,
        &id[7..],
        &id[7..19],
        &image.manifest.to_string(),
    ] {
        assert_eq!(test.store.get(name).unwrap().as_ref(), Some(&image), "{name}");
    }
    for name in ["app", "app:2", &id[7..10], "", "sha256:00"] {
        assert_eq!(test.store.get(name).unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn a_reopened_store_has_the_same_images() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"1").await;
    assert_eq!(test.reopen().get("app:1").unwrap(), Some(image));
}

#[tokio::test]
async fn one_process_sees_what_another_imports_and_removes() {
    let test = TestStore::new();
    let other = test.reopen();
    import(&test, "app:1", b"1").await;
    assert!(other.get("app:1").unwrap().is_some());
    other.remove("app:1").await.unwrap();
    assert!(test.store.get("app:1").unwrap().is_none());
    assert_eq!(test.count("blobs/sha256"), 0);
}

#[tokio::test]
async fn removing_the_last_name_removes_content_but_not_what_containers_use() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"1").await;
    let other = import(&test, "other:1", b"2").await;
    let rootfs = test.store.prepare_rootfs("c1", &image).await.unwrap();
    test.store.remove("app:1").await.unwrap();
    assert!(rootfs.lowers[0].join("file").exists());
    assert_eq!(test.store.list().unwrap(), [other]);
    test.store.release_rootfs("c1").await.unwrap();
    assert_eq!(test.count("rootfs"), 0);
    let collected = test.store.collect_garbage().await.unwrap().unwrap();
    assert_eq!((collected.blobs, collected.snapshots), (0, 1));
    assert!(!rootfs.lowers[0].exists());
    assert_eq!(
        (
            test.count("snapshots"),
            test.count("blobs/sha256"),
            test.count("tmp")
        ),
        (1, 3, 0)
    );
}

#[tokio::test]
async fn leftovers_of_a_crash_are_cleared_when_the_store_is_opened() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"1").await;
    let root = test.directory.path();
    std::fs::create_dir_all(root.join("tmp/dead/root/deep")).unwrap();
    std::fs::write(root.join("tmp/dead-blob"), b"half").unwrap();
    std::fs::write(root.join("blobs/sha256").join("ab".repeat(32)), b"unreferenced").unwrap();
    std::fs::create_dir(root.join("snapshots").join("cd".repeat(32))).unwrap();
    let reopened = test.reopen();
    assert_eq!(
        (
            test.count("tmp"),
            test.count("blobs/sha256"),
            test.count("snapshots")
        ),
        (0, 3, 1)
    );
    assert_eq!(reopened.list().unwrap(), [image]);
}

#[tokio::test]
async fn a_root_file_system_is_found_again_and_belongs_to_one_image() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"1").await;
    let other = import(&test, "other:1", b"2").await;
    let first = test.store.prepare_rootfs("c1", &image).await.unwrap();
    std::fs::write(first.upper.join("written"), b"x").unwrap();
    assert_eq!(test.reopen().prepare_rootfs("c1", &image).await.unwrap(), first);
    assert!(first.upper.join("written").exists());
    let taken = test.store.prepare_rootfs("c1", &other).await;
    assert!(matches!(taken, Err(RootFsError::Taken { .. })));
    assert_eq!(test.store.rootfs_keys().unwrap(), ["c1"]);
}

#[tokio::test]
async fn a_container_key_that_is_a_path_is_refused() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"1").await;
    for key in ["", ".", "..", "../x", "a/b", ".hidden", &"k".repeat(200)] {
        let refused = test.store.prepare_rootfs(key, &image).await;
        assert!(matches!(refused, Err(RootFsError::Key(_))), "{key}");
    }
}

#[tokio::test]
async fn what_a_lease_needs_must_be_there() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"1").await;
    test.store.remove("app:1").await.unwrap();
    let refused = test.store.prepare_rootfs("c1", &image).await;
    assert!(matches!(refused, Err(RootFsError::NoImage(_))));
}

/// Waits until the background has marked so many layers as synced.
async fn synced(test: &TestStore, layers: usize) {
    let marked = async {
        while test.count("synced") < layers {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), marked)
        .await
        .expect("layers are synced");
}

#[tokio::test]
async fn after_a_reboot_layers_that_were_not_synced_are_unpacked_again() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"whole").await;
    import(&test, "other:1", b"2").await;
    synced(&test, 2).await;
    let before = test.store.prepare_rootfs("c1", &image).await.unwrap();
    let mark = test
        .directory
        .path()
        .join("synced")
        .join(before.lowers[0].file_name().unwrap());
    std::fs::remove_file(mark).unwrap();
    std::fs::write(before.lowers[0].join("file"), b"torn").unwrap();
    std::fs::write(test.directory.path().join("boot"), b"the boot before").unwrap();

    let store = test.reopen();
    assert_eq!(test.count("snapshots"), 1);
    let after = store.prepare_rootfs("c2", &image).await.unwrap();
    assert_eq!(after.lowers, before.lowers);
    assert_eq!(std::fs::read(after.lowers[0].join("file")).unwrap(), b"whole");
    synced(&test, 2).await;
}

#[tokio::test]
async fn within_one_boot_a_layer_needs_no_mark() {
    let test = TestStore::new();
    import(&test, "app:1", b"1").await;
    synced(&test, 1).await;
    std::fs::remove_dir_all(test.directory.path().join("synced")).unwrap();
    test.reopen();
    assert_eq!(test.count("snapshots"), 1);
    synced(&test, 1).await;
}

#[tokio::test]
async fn a_tag_is_taken_from_its_own_image_only() {
    let test = TestStore::new();
    let first = import(&test, "app:1", b"1").await;
    let second = import(&test, "app:2", b"1").await;
    assert_eq!((first.id, first.manifest), (second.id, second.manifest));
    test.store.remove("app:1").await.unwrap();
    assert!(test.store.get("app:1").unwrap().is_none());
    assert_eq!(
        test.store.get("app:2").unwrap().unwrap().names,
        ["docker.io/library/app:2"]
    );
    let unknown = test.store.remove("app:1").await.unwrap_err();
    assert_eq!(unknown.to_string(), "no image \"app:1\" in the store");
}

#[tokio::test]
async fn damaged_content_is_brought_again_and_hides_no_other_image() {
    let test = TestStore::new();
    let image = import(&test, "app:1", b"1").await;
    let other = import(&test, "other:1", b"2").await;
    let blobs = test.directory.path().join("blobs/sha256");
    let damage = |name: String| {
        let mut bytes = std::fs::read(blobs.join(&name)).unwrap();
        *bytes.last_mut().unwrap() ^= 0x20;
        std::fs::write(blobs.join(name), bytes).unwrap();
    };
    damage(image.id.hex());
    let reopened = test.reopen();
    assert_eq!(reopened.list().unwrap(), [other]);
    let again = import(&test, "app:1", b"1").await;
    assert_eq!(test.reopen().get("app:1").unwrap(), Some(again.clone()));

    let snapshot = test
        .store
        .prepare_rootfs("c1", &again)
        .await
        .unwrap()
        .lowers
        .remove(0);
    std::fs::remove_dir_all(&snapshot).unwrap();
    damage(again.config.rootfs.diff_ids[0].hex());
    let torn = test.store.prepare_rootfs("c2", &again).await.unwrap_err();
    assert!(torn.to_string().starts_with("content has digest"), "{torn}");
    import(&test, "app:1", b"1").await;
    test.store.prepare_rootfs("c2", &again).await.unwrap();
}
