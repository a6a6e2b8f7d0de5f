//! Who commits: the commit thread, or a writer who is alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cloudeck_engine::disk::{Disk, File};
use cloudeck_engine::sim::SimDisk;
use cloudeck_engine::{EmbeddedOptions, EmbeddedStore, RangeRequest, Store, Txn, TxnError};
use cloudeck_task::Scope;

/// Writes in a round: enough for the store to see that a writer is alone and the disk is quick.
const ROUND: usize = 200;

/// Counts who waits for the disk.
#[derive(Clone)]
struct Watched {
    disk: SimDisk,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    by_thread: AtomicUsize,
    by_writer: AtomicUsize,
    /// Microseconds that making something durable takes.
    slowness: AtomicU64,
    /// Nothing that is committed becomes durable; what the keeper does, does.
    fails: AtomicBool,
}

struct WatchedFile {
    file: Arc<dyn File>,
    seen: Arc<Seen>,
}

impl Watched {
    fn new() -> Self {
        Self {
            disk: SimDisk::new(),
            seen: Arc::default(),
        }
    }

    fn watch(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(WatchedFile {
            file,
            seen: Arc::clone(&self.seen),
        })
    }

    fn open(&self, scope: &Scope) -> Arc<EmbeddedStore> {
        let options = EmbeddedOptions::default();
        Arc::new(EmbeddedStore::open_on(Arc::new(self.clone()), options, scope).unwrap())
    }

    /// How many batches the thread and writers have committed since the last call.
    fn counts(&self) -> (usize, usize) {
        let take = |count: &AtomicUsize| count.swap(0, Ordering::SeqCst);
        (take(&self.seen.by_thread), take(&self.seen.by_writer))
    }
}

impl Disk for Watched {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.watch(self.disk.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.watch(Disk::open(&self.disk, name)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

impl File for WatchedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        match std::thread::current().name() {
            Some("store-commit") => self.seen.by_thread.fetch_add(1, Ordering::SeqCst),
            Some("store-keeper") => return self.file.sync_data(),
            _ => self.seen.by_writer.fetch_add(1, Ordering::SeqCst),
        };
        if self.seen.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk fails"));
        }
        std::thread::sleep(Duration::from_micros(self.seen.slowness.load(Ordering::SeqCst)));
        self.file.sync_data()
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        self.file.reserve(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

async fn write(store: &EmbeddedStore, writer: usize, count: usize) -> Result<(), TxnError> {
    for number in 0..count {
        let txn = Txn::new().put(format!("w{writer}/{number:05}"), "value");
        store.txn(txn).await?;
    }
    Ok(())
}

async fn keys(store: &EmbeddedStore) -> usize {
    store.range(RangeRequest::prefix(b"w")).await.unwrap().kvs.len()
}

/// Writes alone until the store lets the writer commit. (On a busy machine a quick disk may look slow for a while.)
async fn settle(disk: &Watched, store: &EmbeddedStore) {
    for _ in 0..200 {
        disk.counts();
        write(store, 0, ROUND).await.unwrap();
        let (_, by_writer) = disk.counts();
        if by_writer > ROUND / 2 {
            return;
        }
    }
    panic!("a writer who is alone never commits himself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_who_is_alone_commits_himself_and_many_leave_it_to_the_thread() {
    let (disk, scope) = (Watched::new(), Scope::root("turns"));
    let store = disk.open(&scope);
    settle(&disk, &store).await;
    let before = store.revision().get();
    // A disk that takes no time leaves writers alone, however many they are.
    disk.seen.slowness.store(100, Ordering::SeqCst);
    let (alive, mut all_ended) = tokio::sync::mpsc::channel::<()>(1);
    for writer in 1..=64 {
        let (store, alive) = (Arc::clone(&store), alive.clone());
        scope.spawn("writer", async move {
            write(&store, writer, 50).await.unwrap();
            drop(alive);
        });
    }
    drop(alive);
    all_ended.recv().await;
    let (by_thread, by_writer) = disk.counts();
    assert!(
        by_thread > by_writer,
        "{by_thread} batches by the thread, {by_writer} by writers"
    );
    assert_eq!(keys(&store).await, ROUND + 64 * 50);
    assert_eq!(store.revision().get() - before, 64 * 50);
    store.close().await;
    let late = store.txn(Txn::new().put("late", "x")).await;
    assert!(matches!(late, Err(TxnError::Closed)), "{late:?}");
    drop(store);
    assert_eq!(keys(&disk.open(&scope)).await, ROUND + 64 * 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_slow_disk_on_a_thread_of_the_executor() {
    let (disk, scope) = (Watched::new(), Scope::root("turns"));
    disk.seen.slowness.store(2_000, Ordering::SeqCst);
    let store = disk.open(&scope);
    disk.counts();
    write(&store, 0, 100).await.unwrap();
    assert_eq!(disk.counts(), (100, 0));
    disk.seen.slowness.store(0, Ordering::SeqCst);
    settle(&disk, &store).await;
    disk.seen.slowness.store(5_000, Ordering::SeqCst);
    write(&store, 0, 30).await.unwrap();
    let (by_thread, by_writer) = disk.counts();
    assert!(
        by_writer < 2 && by_thread > 28,
        "{by_writer} batches on the executor"
    );
}

#[tokio::test]
async fn an_executor_of_one_thread_leaves_all_to_the_commit_thread() {
    let (disk, scope) = (Watched::new(), Scope::root("turns"));
    let store = disk.open(&scope);
    disk.counts();
    write(&store, 0, ROUND).await.unwrap();
    assert_eq!(disk.counts(), (ROUND, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_a_writer_ends_all_writes() {
    let (disk, scope) = (Watched::new(), Scope::root("turns"));
    let store = disk.open(&scope);
    settle(&disk, &store).await;
    disk.seen.fails.store(true, Ordering::SeqCst);
    let outcome = write(&store, 1, 1).await;
    assert!(
        matches!(outcome, Err(TxnError::OutcomeUnknown { .. })),
        "{outcome:?}"
    );
    let outcome = write(&store, 2, 1).await;
    assert!(matches!(outcome, Err(TxnError::Poisoned { .. })), "{outcome:?}");
    assert_eq!(keys(&store).await, ROUND);
}
