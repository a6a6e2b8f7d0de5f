//! A process killed in the middle of its work, at ever other moments.

use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloudeck_image::{ImageStore, ImportSource, StoreConfig};
use cloudeck_task::Scope;
use serde_json::json;

use crate::archive::{LayerBuilder, docker_archive};

/// Tells the child that it is one.
const MARK: &str = "this-is-the-child";
const ROUNDS: usize = 8;
const IMAGES_MAX: usize = 100_000;

/// Not a test by itself: the process that [`a_store_killed_at_any_moment_keeps_what_it_acknowledged`] kills. It works
/// in its current directory and writes down what was acknowledged.
#[tokio::test]
#[ignore = "only runs as a child of the crash test"]
async fn child_that_imports_and_removes() {
    if !Path::new(MARK).exists() {
        return;
    }
    let scope = Scope::root("child");
    let store = ImageStore::open(Path::new("store"), StoreConfig::default(), &scope).unwrap();
    let mut log = std::fs::File::options()
        .create(true)
        .append(true)
        .open("acknowledged")
        .unwrap();
    // No number comes twice: what was removed under it once would be missing the second time.
    let before = acknowledged(Path::new("."));
    let numbers = before
        .iter()
        .filter_map(|line| line.strip_prefix("app:")?.parse::<usize>().ok());
    let start = numbers.max().map_or(0, |last| last + 1);
    for n in start..start + IMAGES_MAX {
        let content = format!("image {n}").repeat(2000);
        let files = (0..20).fold(LayerBuilder::new(), |layer, f| {
            layer.file(&format!("d{f}/file"), content.as_bytes())
        });
        let layers = [
            files.build(),
            LayerBuilder::new().file("top", n.to_string().as_bytes()).build(),
        ];
        let archive = docker_archive(&format!("app:{n}"), &layers, &json!({}));
        store
            .import(ImportSource::Reader(Box::new(Cursor::new(archive))), None)
            .await
            .unwrap();
        writeln!(log, "app:{n}").unwrap();
        if n % 4 == 3 {
            writeln!(log, "-app:{}", n - 2).unwrap();
            store.remove(&format!("app:{}", n - 2)).await.unwrap();
        }
    }
}

/// Killed and reaped at the latest when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_child(directory: &Path) -> Killed {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_imports_and_removes", "--ignored"])
        .current_dir(directory)
        .stdout(Stdio::null())
        .spawn();
    Killed(child.unwrap())
}

fn acknowledged(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join("acknowledged")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Waits for a moment at which something is half done, another one each round.
fn wait_for_work(directory: &Path, images: usize, child: &mut Killed) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let busy =
        || std::fs::read_dir(directory.join("store/tmp")).is_ok_and(|mut entries| entries.next().is_some());
    while acknowledged(directory).len() < images || !busy() {
        assert!(child.0.try_wait().unwrap().is_none(), "the child ended by itself");
        assert!(Instant::now() < deadline, "the child does nothing");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_store_killed_at_any_moment_keeps_what_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(MARK), b"").unwrap();
    let scope = Scope::root("parent");
    for round in 0..ROUNDS {
        let before = acknowledged(directory.path()).len();
        let mut child = start_child(directory.path());
        wait_for_work(directory.path(), before + 1 + round % 3, &mut child);
        drop(child);

        let root = directory.path().join("store");
        let store = ImageStore::open(&root, StoreConfig::default(), &scope).unwrap();
        let log = acknowledged(directory.path());
        let removed: Vec<_> = log.iter().filter_map(|line| line.strip_prefix('-')).collect();
        let kept = log
            .iter()
            .filter(|line| !line.starts_with('-') && !removed.contains(&line.as_str()));
        for name in kept {
            let image = store
                .get(name)
                .unwrap()
                .unwrap_or_else(|| panic!("round {round}: {name} is lost"));
            let rootfs = store.prepare_rootfs("check", &image).await.unwrap();
            let number = name.strip_prefix("app:").unwrap();
            assert_eq!(
                std::fs::read_to_string(rootfs.lowers[0].join("top")).unwrap(),
                number
            );
            let whole = format!("image {number}").repeat(2000);
            assert_eq!(
                std::fs::read_to_string(rootfs.lowers[1].join("d19/file")).unwrap(),
                whole
            );
            store.release_rootfs("check").await.unwrap();
        }
        let count = |what: &str| std::fs::read_dir(root.join(what)).unwrap().count();
        let images = store.list().unwrap().len();
        // Manifest, configuration and two layers each; nothing else is left of what was under way.
        assert_eq!(
            (count("tmp"), count("blobs/sha256"), count("snapshots")),
            (0, 4 * images, 2 * images)
        );
    }
}
