use std::sync::Arc;

use cloudeck_task::Scope;

use super::*;
use crate::embedded::segment::SegmentKind;
use crate::embedded::{EmbeddedOptions, EmbeddedStore, KeeperMode};
use crate::model::{HistoryPolicy, RangeRequest, Txn};
use crate::sim::SimDisk;
use crate::store::Store;

fn open(disk: &SimDisk) -> EmbeddedStore {
    let options = EmbeddedOptions {
        history: HistoryPolicy {
            max_revisions: 1,
            ..HistoryPolicy::default()
        },
        segment_bytes: 4 << 10,
        keeper: KeeperMode::WithCommits,
        ..EmbeddedOptions::default()
    };
    EmbeddedStore::open_on(Arc::new(disk.clone()), options, &Scope::root("compaction")).unwrap()
}

/// Writes new keys until the log has gone on to another segment.
async fn fill_segment(store: &EmbeddedStore, prefix: &str) {
    let sealed = |store: &EmbeddedStore| store.shared.segments().sealed().count();
    let before = sealed(store);
    for n in 0..1000 {
        if sealed(store) > before {
            return;
        }
        store
            .txn(Txn::new().put(format!("{prefix}/{n}"), vec![b'x'; 200]))
            .await
            .unwrap();
    }
    panic!("the log goes on, but no further segment counts as sealed");
}

/// The sealed segments, and nobody at work on them: a commit is answered after the keeper's work for the one before.
async fn sealed(store: &EmbeddedStore) -> Vec<Arc<Segment>> {
    store.txn(Txn::new()).await.unwrap();
    store.shared.segments().sealed().cloned().collect()
}

async fn exists(store: &EmbeddedStore, key: &str) -> bool {
    store
        .range(RangeRequest::key(key.as_bytes()))
        .await
        .unwrap()
        .count
        == 1
}

#[tokio::test]
async fn a_tombstone_stays_until_no_other_segment_holds_the_key() {
    let disk = SimDisk::new();
    let store = open(&disk);
    store.txn(Txn::new().put("k", "old")).await.unwrap();
    fill_segment(&store, "a").await;
    // The old value goes to a base segment, which the next compaction leaves alone.
    compact(
        &store.shared,
        &Victims {
            base: Vec::new(),
            log: sealed(&store).await,
        },
    )
    .unwrap();
    store.txn(Txn::new().delete("k")).await.unwrap();
    fill_segment(&store, "b").await;
    assert_eq!(store.shared.segments().base.len(), 1);
    compact(
        &store.shared,
        &Victims {
            base: Vec::new(),
            log: sealed(&store).await,
        },
    )
    .unwrap();
    assert!(!exists(&store, "k").await);
    store.close().await;
    let store = open(&disk);
    assert!(!exists(&store, "k").await, "the deleted key came back");

    // Together with the old value it goes.
    let base = store.shared.segments().base.clone();
    let victims = Victims {
        base,
        log: sealed(&store).await,
    };
    compact(&store.shared, &victims).unwrap();
    let tombstones = |store: &EmbeddedStore| {
        let segments: Vec<_> = store.shared.segments().base.clone();
        let mut count = 0;
        for segment in segments {
            let bytes = segment.read_all().unwrap();
            let (_, body) =
                format::decode_batch(store.shared.store, &bytes[SEGMENT_HEADER_BYTES as usize..]).unwrap();
            count += format::decode_records(body)
                .filter(|record| matches!(record, Ok(Record::Version { version, .. }) if version.deleted))
                .count();
        }
        count
    };
    assert_eq!(tombstones(&store), 0);
    store.close().await;
    assert!(!exists(&open(&disk), "k").await);
}

#[tokio::test]
async fn reads_and_revisions_are_the_same_before_and_after() {
    let disk = SimDisk::new();
    let store = open(&disk);
    fill_segment(&store, "a").await;
    store.txn(Txn::new().put("a/0", "again")).await.unwrap();
    fill_segment(&store, "b").await;
    let read = || store.range(RangeRequest::new(crate::model::KeyRange::all()));
    let before = read().await.unwrap();
    compact(
        &store.shared,
        &Victims {
            base: Vec::new(),
            log: sealed(&store).await,
        },
    )
    .unwrap();
    assert_eq!(read().await.unwrap(), before);
    let moved = store
        .shared
        .segments()
        .base
        .iter()
        .map(|segment| segment.garbage_bytes())
        .sum::<u64>();
    assert_eq!(moved, 0, "everything moved is in use");
}

#[tokio::test]
async fn a_damaged_segment_is_kept_as_it_is() {
    let disk = SimDisk::new();
    let store = open(&disk);
    fill_segment(&store, "a").await;
    fill_segment(&store, "b").await;
    let victims = Victims {
        base: Vec::new(),
        log: sealed(&store).await,
    };
    for victim in &victims.log {
        let name = file_name(victim.id);
        for offset in [
            SEGMENT_HEADER_BYTES as usize + HEADER_BYTES + 60,
            victim.read_all().unwrap().len() - 100,
        ] {
            disk.flip(&name, offset, 1);
            let refused = compact(&store.shared, &victims);
            assert!(matches!(refused, Err(CompactionError::Damaged { segment, .. }) if segment == victim.id));
            disk.flip(&name, offset, 1);
        }
    }
    assert_eq!(sealed(&store).await.len(), 2);
    compact(&store.shared, &victims).unwrap();
    assert_eq!(sealed(&store).await.len(), 0);
}

#[tokio::test]
async fn a_segment_that_a_process_prepared_and_never_used_does_not_end_compaction() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let first = Txn::new().put("k", vec![b'x'; 1000]);
    store.txn(first).await.unwrap();
    // Room is made for it in the next segment, and then nothing is written.
    let refused = Txn::new().expect_absent("k").put("big", vec![b'x'; 3000]);
    assert!(!store.txn(refused).await.unwrap().succeeded);
    sealed(&store).await;
    assert_eq!(
        store.shared.segments().log.len(),
        3,
        "the keeper has prepared another"
    );
    store.close().await;
    let store = open(&disk);
    for prefix in ["a", "b", "c"] {
        fill_segment(&store, prefix).await;
    }
    store.close().await;
    let store = open(&disk);
    let log = sealed(&store).await;
    assert!(log.len() >= 3, "{} are sealed", log.len());
    let base = Vec::new();
    compact(&store.shared, &Victims { base, log }).unwrap();
    store.close().await;
    assert!(exists(&open(&disk), "c/0").await);
}

/// As stores have them that an earlier version has opened.
#[tokio::test]
async fn an_empty_segment_amid_the_log_is_complete_and_one_that_lost_its_batches_is_not() {
    let disk = SimDisk::new();
    let store = open(&disk);
    fill_segment(&store, "a").await;
    fill_segment(&store, "b").await;
    let mut log = sealed(&store).await;
    let shared = &store.shared;
    let end = *log[0].end.get().unwrap();
    let empty = Segment::create(&disk, shared.store, 99, SegmentKind::Log, 4 << 10).unwrap();
    let set = empty.end.set(end);
    assert!(set.is_ok());
    shared.segments().log.insert(1, Arc::clone(&empty));
    log.insert(1, empty);
    let name = file_name(log[0].id);
    let flip = || disk.flip(&name, SEGMENT_HEADER_BYTES as usize, 1);
    let victims = Victims {
        base: Vec::new(),
        log,
    };
    flip();
    let refused = compact(shared, &victims);
    let first = victims.log[0].id;
    assert!(matches!(refused, Err(CompactionError::Damaged { segment, .. }) if segment == first));
    flip();
    compact(shared, &victims).unwrap();
    assert!(exists(&store, "a/0").await && exists(&store, "b/0").await);
}
