//! One fault at a time: what the store does about it, and what it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloudeck_engine::embedded::{RepairReport, repair_on};
use cloudeck_engine::sim::{Dice, Faults, SimDisk};
use cloudeck_engine::{
    EmbeddedOptions, EmbeddedStore, KeyRange, OpenError, RangeError, RangeRequest, ReadError, Store, Txn,
    TxnError, WallClock, WatchError, WatchRequest,
};
use cloudeck_task::Scope;

use crate::model::small_options;
use crate::subject::revision;

/// Segments of the store's options here.
const SEGMENT_BYTES: u64 = 4 << 10;

fn open(disk: &SimDisk) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open_on(Arc::new(disk.clone()), small_options(), &Scope::root("faults"))
}

/// Opens with everything in one segment.
fn open_roomy(disk: &SimDisk) -> EmbeddedStore {
    let options = EmbeddedOptions {
        segment_bytes: 1 << 20,
        ..small_options()
    };
    EmbeddedStore::open_on(Arc::new(disk.clone()), options, &Scope::root("faults")).unwrap()
}

async fn put(store: &EmbeddedStore, key: &str, value: &str) -> Result<u64, TxnError> {
    Ok(store
        .txn(Txn::new().put(key.to_owned(), value.to_owned()))
        .await?
        .revision
        .get())
}

async fn get(store: &EmbeddedStore, key: &str) -> Result<Option<String>, RangeError> {
    let response = store.range(RangeRequest::key(key.as_bytes())).await?;
    Ok(response
        .kvs
        .first()
        .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()))
}

/// Finds bytes in a file.
fn find(disk: &SimDisk, text: &str) -> (String, usize) {
    for id in 1..200 {
        let name = format!("{id:08}.seg");
        let content = disk.content(&name).unwrap_or_default();
        if let Some(at) = content
            .windows(text.len())
            .position(|window| window == text.as_bytes())
        {
            return (name, at);
        }
    }
    panic!("{text} is in no segment");
}

fn segment_of(name: &str) -> u32 {
    name.trim_end_matches(".seg").parse().unwrap()
}

#[tokio::test]
async fn a_failed_sync_poisons_the_store_and_shows_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, "a", "kept").await.unwrap();
    let mut watch = store.watch(WatchRequest::new(KeyRange::all())).await.unwrap();
    disk.set_faults(Faults {
        syncs_until_failure: Some(0),
        ..Faults::default()
    });
    assert!(matches!(
        put(&store, "a", "doubtful").await,
        Err(TxnError::OutcomeUnknown { .. })
    ));
    assert!(store.failed().await.contains("making the log durable"));
    assert_eq!(get(&store, "a").await.unwrap().as_deref(), Some("kept"));
    assert_eq!(watch.try_next(), None);
    // Not tried again, although the disk would work.
    disk.set_faults(Faults::default());
    assert!(matches!(
        put(&store, "b", "x").await,
        Err(TxnError::Poisoned { .. })
    ));
    assert_eq!(store.revision(), revision(2));
    store.close().await;
}

#[tokio::test]
async fn what_recovery_shows_after_a_failed_sync_survives_a_power_failure() {
    for seed in 0..8 {
        let disk = SimDisk::new();
        let store = open(&disk).unwrap();
        put(&store, "a", "kept").await.unwrap();
        disk.set_faults(Faults {
            syncs_until_failure: Some(0),
            ..Faults::default()
        });
        put(&store, "a", "doubtful").await.unwrap_err();
        store.close().await;
        disk.set_faults(Faults::default());
        // The page cache still has the write, and counts it as clean.
        let store = open(&disk).unwrap();
        let shown = get(&store, "a").await.unwrap();
        store.close().await;
        disk.crash(&mut Dice::new(seed));
        let store = open(&disk).unwrap();
        assert_eq!(get(&store, "a").await.unwrap(), shown);
    }
}

#[tokio::test]
async fn a_failed_write_poisons_the_store() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, "a", "kept").await.unwrap();
    disk.set_faults(Faults {
        fail_writes: true,
        ..Faults::default()
    });
    assert!(matches!(
        put(&store, "a", "x").await,
        Err(TxnError::OutcomeUnknown { .. })
    ));
    store.close().await;
    disk.crash(&mut Dice::new(1));
    assert_eq!(
        get(&open(&disk).unwrap(), "a").await.unwrap().as_deref(),
        Some("kept")
    );
}

#[tokio::test]
async fn a_full_disk_refuses_puts_cleanly_and_deletions_win_the_space_back() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    disk.set_faults(Faults {
        capacity: Some(120 << 10),
        ..Faults::default()
    });
    let value = "x".repeat(500);
    let mut stored = 0;
    let refused = loop {
        match put(&store, &format!("k{stored:04}"), &value).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk never fills up");
    };
    assert_eq!(refused, TxnError::NoSpace);
    let at = store.revision();
    assert_eq!(put(&store, "more", &value).await, Err(TxnError::NoSpace));
    assert_eq!(store.revision(), at, "a refusal changes nothing");
    assert_eq!(get(&store, "k0000").await.unwrap().as_deref(), Some(&value[..]));
    for n in 0..stored {
        store
            .txn(Txn::new().delete(format!("k{n:04}")))
            .await
            .expect("deletions are accepted");
    }
    // Each attempt has the keeper look again.
    let mut attempts = 0;
    while put(&store, "again", &value).await.is_err() {
        attempts += 1;
        assert!(attempts < 10, "space does not come back");
    }
    store.close().await;
    disk.crash(&mut Dice::new(3));
    let store = open(&disk).unwrap();
    assert_eq!(store.status().keys, 1);
}

#[tokio::test]
async fn a_write_that_finds_no_space_half_way_is_taken_back() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    put(&store, "a", "kept").await.unwrap();
    disk.set_faults(Faults {
        full_writes: 1,
        ..Faults::default()
    });
    assert_eq!(put(&store, "a", &"x".repeat(900)).await, Err(TxnError::NoSpace));
    assert_eq!(store.revision(), revision(2));
    store.close().await;
    disk.crash(&mut Dice::new(2));
    let store = open(&disk).unwrap();
    assert_eq!(get(&store, "a").await.unwrap().as_deref(), Some("kept"));
    assert_eq!(put(&store, "a", "next").await, Ok(3));

    disk.set_faults(Faults {
        full_writes: 2,
        ..Faults::default()
    });
    let outcome = put(&store, "a", "x").await;
    assert!(
        matches!(outcome, Err(TxnError::OutcomeUnknown { .. })),
        "it cannot be taken back: {outcome:?}"
    );
}

#[tokio::test]
async fn a_manifest_that_may_or_may_not_be_replaced_poisons_the_store() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    disk.set_faults(Faults {
        fail_dir_sync: true,
        ..Faults::default()
    });
    let mut written = 1;
    // Until the next segment is wanted. Its own name is synced first, which is no more than a failed attempt.
    for n in 0..200 {
        match put(&store, "a", &format!("{n} {}", "x".repeat(300))).await {
            Ok(at) => written = at,
            Err(error) => {
                assert!(
                    matches!(error, TxnError::NoSpace | TxnError::Poisoned { .. }),
                    "{error}"
                );
                break;
            }
        }
    }
    assert_eq!(store.revision(), revision(written));
    store.close().await;
    disk.crash(&mut Dice::new(9));
    assert_eq!(open(&disk).unwrap().revision(), revision(written));
}

#[tokio::test]
async fn a_panic_of_the_commit_thread_is_a_failure_like_any_other() {
    let disk = SimDisk::new();
    let broken = Arc::new(AtomicBool::new(false));
    let clock = {
        let broken = Arc::clone(&broken);
        WallClock::new(move || {
            assert!(
                !broken.load(Ordering::SeqCst),
                "the clock of this test is broken on purpose"
            );
            std::time::SystemTime::UNIX_EPOCH
        })
    };
    let options = EmbeddedOptions {
        clock,
        ..small_options()
    };
    let store = EmbeddedStore::open_on(Arc::new(disk.clone()), options, &Scope::root("faults")).unwrap();
    put(&store, "a", "kept").await.unwrap();
    let mut watch = store.watch(WatchRequest::new(KeyRange::all())).await.unwrap();
    broken.store(true, Ordering::SeqCst);
    assert!(matches!(
        put(&store, "a", "x").await,
        Err(TxnError::OutcomeUnknown { .. })
    ));
    assert!(store.failed().await.contains("panicked"));
    assert_eq!(watch.next().await, Err(WatchError::Closed));
    store.close().await;
    assert_eq!(
        get(&open(&disk).unwrap(), "a").await.unwrap().as_deref(),
        Some("kept")
    );
}

#[tokio::test]
async fn only_one_can_open_a_store() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    assert!(matches!(open(&disk).err(), Some(OpenError::Locked)));
    store.close().await;
    open(&disk).unwrap();
}

#[tokio::test]
async fn a_real_directory_is_locked_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let scope = Scope::root("faults");
    let store = EmbeddedStore::open(&path, EmbeddedOptions::default(), &scope).unwrap();
    put(&store, "secret", "x").await.unwrap();
    let second = EmbeddedStore::open(&path, EmbeddedOptions::default(), &scope);
    assert!(matches!(second.err(), Some(OpenError::Locked)));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    store.close().await;
    let store = EmbeddedStore::open(&path, EmbeddedOptions::default(), &scope).unwrap();
    assert_eq!(get(&store, "secret").await.unwrap().as_deref(), Some("x"));
}

/// A closed store with keys `k00`… in several segments.
async fn filled(disk: &SimDisk) {
    let store = open(disk).unwrap();
    for n in 0..40 {
        put(
            &store,
            &format!("k{n:02}"),
            &format!("value-{n:02}-{}", "x".repeat(300)),
        )
        .await
        .unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn a_flipped_bit_in_an_earlier_segment_is_refused_with_its_place_and_can_be_repaired() {
    let disk = SimDisk::new();
    filled(&disk).await;
    let (name, at) = find(&disk, "value-03");
    disk.flip(&name, at + 20, 0x10);
    let error = open(&disk).err().expect("damage is refused");
    let OpenError::Corrupt { segment, offset, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*segment, segment_of(&name));
    assert!(*offset < at as u64 && at as u64 - *offset < 1000);
    assert!(error.to_string().contains("repair"));

    let report = repair_on(&disk, SEGMENT_BYTES).unwrap();
    assert_eq!(report.lost.len(), 1);
    assert_eq!(
        (report.lost[0].segment, report.lost[0].offset),
        (*segment, *offset)
    );
    assert_eq!(report.keys, 39);
    assert!(report.kept_aside.contains(&format!("{name}.damaged")));
    let store = open(&disk).unwrap();
    assert_eq!(get(&store, "k03").await.unwrap(), None);
    assert!(get(&store, "k04").await.unwrap().unwrap().starts_with("value-04"));
    assert!(
        store.revision() > revision(41),
        "a revision that was lost is never used again"
    );
    put(&store, "k03", "new").await.unwrap();
}

#[tokio::test]
async fn a_flipped_bit_before_the_last_batch_is_no_torn_tail() {
    let disk = SimDisk::new();
    let store = open_roomy(&disk);
    for n in 0..5 {
        put(&store, "a", &format!("value-{n}")).await.unwrap();
    }
    store.close().await;
    let (name, at) = find(&disk, "value-3");
    disk.flip(&name, at, 1);
    assert!(matches!(open(&disk).err(), Some(OpenError::Corrupt { .. })));
}

#[tokio::test]
async fn a_torn_last_batch_is_cut_and_the_log_goes_on() {
    let disk = SimDisk::new();
    let store = open_roomy(&disk);
    for n in 0..5 {
        put(&store, "a", &format!("value-{n}")).await.unwrap();
    }
    store.close().await;
    let (name, at) = find(&disk, "value-4");
    disk.flip(&name, at, 1);
    let store = open_roomy(&disk);
    assert_eq!(get(&store, "a").await.unwrap().as_deref(), Some("value-3"));
    assert_eq!(put(&store, "a", "other").await, Ok(6));
    store.close().await;
    disk.crash(&mut Dice::new(5));
    assert_eq!(
        get(&open_roomy(&disk), "a").await.unwrap().as_deref(),
        Some("other")
    );
}

#[tokio::test]
async fn a_value_that_rots_while_the_store_is_open_is_an_error_not_a_wrong_answer() {
    let disk = SimDisk::new();
    let store = open_roomy(&disk);
    put(&store, "a", "a precious value").await.unwrap();
    put(&store, "b", "another").await.unwrap();
    let (name, at) = find(&disk, "a precious value");
    disk.flip(&name, at + 3, 4);
    let segment = segment_of(&name);
    let corrupt = ReadError::Corrupt {
        segment,
        offset: at as u64,
    };
    assert_eq!(get(&store, "a").await, Err(RangeError::Read(corrupt.clone())));
    assert_eq!(get(&store, "b").await.unwrap().as_deref(), Some("another"));
    let swap = Txn::new().expect_absent("a").put("a", "x");
    assert_eq!(store.txn(swap).await, Err(TxnError::Read(corrupt)));
}

#[tokio::test]
async fn a_missing_segment_or_manifest_is_refused_and_can_be_repaired() {
    use cloudeck_engine::disk::Disk;
    let disk = SimDisk::new();
    filled(&disk).await;
    disk.remove("MANIFEST").unwrap();
    assert!(matches!(open(&disk).err(), Some(OpenError::NoManifest)));
    let report = repair_on(&disk, SEGMENT_BYTES).unwrap();
    assert!(report.manifest_lost && report.lost.is_empty());
    assert_eq!(report.keys, 40);
    let store = open(&disk).unwrap();
    assert_eq!(store.status().keys, 40);
    store.close().await;

    let (name, _) = find(&disk, "value-07");
    disk.remove(&name).unwrap();
    let error = open(&disk).err();
    assert!(matches!(error, Some(OpenError::MissingSegment { segment }) if segment == segment_of(&name)));
    let RepairReport { missing, keys, .. } = repair_on(&disk, SEGMENT_BYTES).unwrap();
    assert_eq!(missing, [segment_of(&name)]);
    assert!(keys < 40);
    open(&disk).unwrap();
}

#[tokio::test]
async fn repairing_a_sound_store_changes_nothing_but_history() {
    let disk = SimDisk::new();
    filled(&disk).await;
    let report = repair_on(&disk, SEGMENT_BYTES).unwrap();
    assert_eq!((report.keys, report.revision), (40, revision(41)));
    assert!(report.lost.is_empty() && report.missing.is_empty() && !report.manifest_lost);
    let store = open(&disk).unwrap();
    let kv = store
        .range(RangeRequest::key(b"k05"))
        .await
        .unwrap()
        .kvs
        .remove(0);
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (revision(7), revision(7), 1)
    );
}

#[tokio::test]
async fn a_damaged_manifest_is_refused_and_can_be_repaired() {
    let disk = SimDisk::new();
    filled(&disk).await;
    disk.flip("MANIFEST", 30, 1);
    assert!(matches!(open(&disk).err(), Some(OpenError::Manifest { .. })));
    assert!(repair_on(&disk, SEGMENT_BYTES).unwrap().manifest_lost);
    assert_eq!(open(&disk).unwrap().status().keys, 40);
}

#[tokio::test]
async fn leases_and_the_api_horizon_survive_a_restart_and_compaction() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    let hour = std::time::Duration::from_hours(1);
    let lease = store.lease_grant(None, hour).await.unwrap();
    let gone = store.lease_grant(None, hour).await.unwrap();
    store.lease_revoke(gone).await.unwrap();
    store
        .txn(Txn::new().put_with_lease("leased", "1", lease))
        .await
        .unwrap();
    store.compact(revision(2)).await.unwrap();
    let before = store.status().disk_bytes;
    for n in 0..200 {
        put(&store, "other", &format!("{n}{}", "x".repeat(300)))
            .await
            .unwrap();
    }
    assert!(
        store.status().disk_bytes < before + 10 * SEGMENT_BYTES,
        "compaction has run"
    );
    store.close().await;
    let store = open(&disk).unwrap();
    assert!(store.compact_revision() >= revision(2));
    assert_eq!(store.lease_keep_alive(lease).await, Ok(hour));
    assert!(store.lease_keep_alive(gone).await.is_err());
    assert_eq!(get(&store, "leased").await.unwrap().as_deref(), Some("1"));
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(get(&store, "leased").await.unwrap(), None);
}

#[tokio::test]
async fn the_revision_survives_the_deletion_of_everything() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    for n in 0..100 {
        put(&store, &format!("k{n}"), &"x".repeat(300)).await.unwrap();
        store.txn(Txn::new().delete(format!("k{n}"))).await.unwrap();
    }
    let at = store.revision();
    store.close().await;
    for _ in 0..3 {
        let store = open(&disk).unwrap();
        assert_eq!((store.revision(), store.status().keys), (at, 0));
        store.close().await;
    }
}

#[tokio::test]
async fn a_lease_whose_end_the_disk_refuses_ends_later() {
    let disk = SimDisk::new();
    let scope = Scope::root("faults");
    let store = EmbeddedStore::open_on(Arc::new(disk.clone()), small_options(), &scope).unwrap();
    let soon = std::time::Duration::from_secs(1);
    let lease = store.lease_grant(None, soon).await.unwrap();
    let leased = Txn::new().put_with_lease("leased", "1", lease);
    store.txn(leased).await.unwrap();
    disk.set_faults(Faults {
        full_writes: 1,
        ..Faults::default()
    });
    let request = WatchRequest::prefix(b"leased").from(revision(3));
    let mut watch = store.watch(request).await.unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_mins(1), watch.next());
    assert!(ended.await.is_ok(), "it never ends");
    assert_eq!(get(&store, "leased").await.unwrap(), None);
}
