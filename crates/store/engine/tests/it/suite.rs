//! What every implementation must do. Each test takes the subject as a parameter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use cloudeck_engine::{
    CompactError, EventKind, HistoryPolicy, KeyRange, LeaseError, RangeError, RangeRequest, Store, Txn,
    TxnError, WallClock, WatchBatch, WatchError, WatchRequest, WatchStream,
};

use crate::subject::{Kind, Subject, revision};

/// Makes each function a test of its own for each implementation.
macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(super::Kind::Memory).await; })*
        }
        mod embedded {
            $(#[tokio::test] async fn $name() { super::$name(super::Kind::Embedded).await; })*
        }
    };
}

suite!(
    an_empty_store_is_at_revision_one,
    puts_count_versions_and_keep_the_create_revision,
    a_deleted_key_begins_anew,
    compare_and_swap_lets_one_of_many_win,
    a_failed_compare_changes_nothing_and_tells_what_is_there,
    several_operations_share_one_revision,
    operations_tell_what_they_replaced,
    deleting_what_is_not_there_is_no_change,
    bad_transactions_are_refused,
    a_range_is_ordered_limited_and_counted,
    a_range_at_an_old_revision_is_as_it_was,
    a_large_range_is_complete,
    the_api_horizon_hides_what_history_still_knows,
    history_gives_way_at_its_limit,
    history_gives_way_with_age,
    history_gives_way_when_its_values_take_too_much,
    a_watch_sees_changes_in_order_with_what_they_replaced,
    a_watch_replays_and_goes_live_without_gap_or_duplicate,
    a_long_replay_under_writes_has_no_gap_or_duplicate,
    a_watch_from_lost_history_fails,
    a_watch_in_the_future_waits_for_it,
    a_slow_watch_is_cut_off_and_nobody_waits,
    a_slow_watch_that_resumes_misses_nothing,
    progress_passes_a_quiet_range,
    the_frontier_tells_what_is_complete,
    an_acknowledged_change_is_queued_for_every_watch,
    a_revoked_lease_takes_its_keys,
    an_expired_lease_takes_its_keys,
    a_lease_kept_alive_lives,
    a_key_put_anew_leaves_its_lease,
    a_closed_store_takes_nothing_and_ends_watches,
);

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> u64 {
    let txn = Txn::new().put(key.to_owned(), value.to_owned());
    let response = store.txn(txn).await.unwrap();
    assert!(response.succeeded);
    response.revision.get()
}

async fn delete(store: &Arc<dyn Store>, key: &str) -> u64 {
    store
        .txn(Txn::new().delete(key.to_owned()))
        .await
        .unwrap()
        .revision
        .get()
}

async fn get(store: &Arc<dyn Store>, key: &str) -> Option<String> {
    let response = store.range(RangeRequest::key(key.as_bytes())).await.unwrap();
    response.kvs.first().map(|kv| text(&kv.value))
}

async fn all_at(store: &Arc<dyn Store>, at: u64) -> Result<BTreeMap<String, String>, RangeError> {
    let request = RangeRequest::new(KeyRange::all()).at(revision(at)).with_history();
    let kvs = store.range(request).await?.kvs;
    Ok(kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// "+key=value@revision" or "-key@revision", then "(was value)".
fn brief(batch: &WatchBatch) -> Vec<String> {
    let brief = |event: &cloudeck_engine::Event| {
        let was = event
            .prev
            .as_ref()
            .map_or(String::new(), |prev| format!(" (was {})", text(&prev.value)));
        assert_eq!(event.kv.mod_revision, batch.revision);
        match event.kind {
            EventKind::Put => format!(
                "+{}={}@{}{was}",
                text(&event.kv.key),
                text(&event.kv.value),
                batch.revision
            ),
            EventKind::Delete => format!("-{}@{}{was}", text(&event.kv.key), batch.revision),
        }
    };
    batch.events.iter().map(brief).collect()
}

async fn next(stream: &mut WatchStream) -> Result<WatchBatch, WatchError> {
    tokio::time::timeout(Duration::from_secs(20), stream.next())
        .await
        .expect("the watch has something")
}

async fn an_empty_store_is_at_revision_one(kind: Kind) {
    let subject = Subject::new(kind);
    assert_eq!(subject.store.revision(), revision(1));
    assert_eq!(put(&subject.store, "a", "1").await, 2);
    assert_eq!(subject.store.revision(), revision(2));
}

async fn puts_count_versions_and_keep_the_create_revision(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "a", "1").await;
    put(&subject.store, "b", "1").await;
    put(&subject.store, "a", "2").await;
    let kv = subject
        .store
        .range(RangeRequest::key(b"a"))
        .await
        .unwrap()
        .kvs
        .remove(0);
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version),
        (revision(2), revision(4), 2)
    );
    assert_eq!(text(&kv.value), "2");
}

async fn a_deleted_key_begins_anew(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "a", "1").await;
    delete(&subject.store, "a").await;
    assert_eq!(get(&subject.store, "a").await, None);
    put(&subject.store, "a", "2").await;
    let kv = subject
        .store
        .range(RangeRequest::key(b"a"))
        .await
        .unwrap()
        .kvs
        .remove(0);
    assert_eq!((kv.create_revision, kv.version), (revision(4), 1));
}

async fn compare_and_swap_lets_one_of_many_win(kind: Kind) {
    let subject = Subject::new(kind);
    let at = revision(put(&subject.store, "a", "0").await);
    let racers: Vec<_> = (1..=20)
        .map(|n| {
            subject
                .store
                .txn(Txn::new().expect_revision("a", at).put("a", n.to_string()))
        })
        .collect();
    let mut winners = 0;
    for racer in racers {
        winners += usize::from(racer.await.unwrap().succeeded);
    }
    assert_eq!(winners, 1);
    let created = subject
        .store
        .txn(Txn::new().expect_absent("a").put("a", "x"))
        .await
        .unwrap();
    assert!(!created.succeeded);
}

async fn a_failed_compare_changes_nothing_and_tells_what_is_there(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "a", "1").await;
    let txn = Txn::new()
        .expect_revision("a", revision(99))
        .expect_absent("b")
        .put("b", "1");
    let response = subject.store.txn(txn).await.unwrap();
    assert!(!response.succeeded);
    assert_eq!(response.revision, revision(2));
    let current: Vec<_> = response
        .current
        .iter()
        .map(|kv| kv.as_ref().map(|kv| text(&kv.value)))
        .collect();
    assert_eq!(current, [Some("1".to_owned()), None]);
    assert_eq!(get(&subject.store, "b").await, None);
    assert_eq!(subject.store.revision(), revision(2));
}

async fn several_operations_share_one_revision(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "old", "1").await;
    let mut watch = subject
        .store
        .watch(WatchRequest::new(KeyRange::all()))
        .await
        .unwrap();
    let txn = Txn::new().put("a", "1").delete("old").put("b", "1");
    assert_eq!(subject.store.txn(txn).await.unwrap().revision, revision(3));
    assert_eq!(
        brief(&next(&mut watch).await.unwrap()),
        ["+a=1@3", "-old@3", "+b=1@3"]
    );
    assert_eq!(put(&subject.store, "c", "1").await, 4);
}

async fn operations_tell_what_they_replaced(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "a", "1").await;
    let response = subject
        .store
        .txn(Txn::new().put("a", "2").put("b", "1").with_prev())
        .await
        .unwrap();
    let prev: Vec<_> = response
        .prev
        .iter()
        .map(|kv| kv.as_ref().map(|kv| text(&kv.value)))
        .collect();
    assert_eq!(prev, [Some("1".to_owned()), None]);
}

async fn deleting_what_is_not_there_is_no_change(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "a", "1").await;
    let response = subject.store.txn(Txn::new().delete("b")).await.unwrap();
    assert!(response.succeeded);
    assert_eq!(response.revision, revision(2));
    assert_eq!(subject.store.revision(), revision(2));
}

async fn bad_transactions_are_refused(kind: Kind) {
    let subject = Subject::new(kind);
    let txn = |txn| subject.store.txn(txn);
    assert_eq!(
        txn(Txn::new().put("a", "1").delete("a")).await,
        Err(TxnError::DuplicateKey)
    );
    assert_eq!(txn(Txn::new().put("", "1")).await, Err(TxnError::EmptyKey));
    let lease = cloudeck_engine::LeaseId(7);
    assert_eq!(
        txn(Txn::new().put_with_lease("a", "1", lease)).await,
        Err(TxnError::LeaseNotFound(lease))
    );
    let huge = Txn::new().put("a", vec![0; 9 << 20]);
    assert!(matches!(txn(huge).await, Err(TxnError::TooLarge { .. })));
    assert_eq!(subject.store.revision(), revision(1));
}

async fn a_range_is_ordered_limited_and_counted(kind: Kind) {
    let subject = Subject::new(kind);
    for key in ["b/2", "a/1", "b/1", "b/3", "c/1", "b"] {
        put(&subject.store, key, "x").await;
    }
    let keys = |kvs: &[cloudeck_engine::KeyValue]| kvs.iter().map(|kv| text(&kv.key)).collect::<Vec<_>>();
    let response = subject
        .store
        .range(RangeRequest::prefix(b"b/").limit(2))
        .await
        .unwrap();
    assert_eq!(keys(&response.kvs), ["b/1", "b/2"]);
    assert!(response.more);
    assert_eq!((response.count, response.revision), (3, revision(7)));
    let response = subject
        .store
        .range(RangeRequest::prefix(b"b/").keys_only())
        .await
        .unwrap();
    assert!(response.kvs.len() == 3 && response.kvs.iter().all(|kv| kv.value.is_empty()));
    let response = subject
        .store
        .range(RangeRequest::prefix(b"b").count_only())
        .await
        .unwrap();
    assert_eq!((response.kvs.len(), response.count), (0, 4));
    let response = subject
        .store
        .range(RangeRequest::new(KeyRange::between("z", "a")))
        .await
        .unwrap();
    assert_eq!(response.count, 0);
}

async fn a_range_at_an_old_revision_is_as_it_was(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "a", "1").await;
    put(&subject.store, "b", "1").await;
    put(&subject.store, "a", "2").await;
    delete(&subject.store, "b").await;
    let expect = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    assert_eq!(
        all_at(&subject.store, 3).await,
        Ok(expect(&[("a", "1"), ("b", "1")]))
    );
    assert_eq!(
        all_at(&subject.store, 4).await,
        Ok(expect(&[("a", "2"), ("b", "1")]))
    );
    assert_eq!(all_at(&subject.store, 5).await, Ok(expect(&[("a", "2")])));
    let future = all_at(&subject.store, 6).await;
    assert_eq!(
        future,
        Err(RangeError::FutureRevision {
            revision: revision(5)
        })
    );
}

async fn a_large_range_is_complete(kind: Kind) {
    let subject = Subject::new(kind);
    let txn = (0..2000).fold(Txn::new(), |txn, n| {
        txn.put(format!("k/{n:05}"), format!("value {n}"))
    });
    subject.store.txn(txn).await.unwrap();
    let response = subject.store.range(RangeRequest::prefix(b"k/")).await.unwrap();
    assert_eq!(response.kvs.len(), 2000);
    assert!(
        response
            .kvs
            .iter()
            .enumerate()
            .all(|(n, kv)| text(&kv.value) == format!("value {n}"))
    );
}

async fn the_api_horizon_hides_what_history_still_knows(kind: Kind) {
    let subject = Subject::new(kind);
    for n in 0..5 {
        put(&subject.store, "a", &n.to_string()).await;
    }
    subject.store.compact(revision(4)).await.unwrap();
    assert_eq!(subject.store.compact_revision(), revision(4));
    let at = |n| subject.store.range(RangeRequest::key(b"a").at(revision(n)));
    let compacted = RangeError::Compacted {
        compact_revision: revision(4),
    };
    assert_eq!(at(3).await, Err(compacted));
    assert_eq!(text(&at(4).await.unwrap().kvs[0].value), "2");
    assert_eq!(all_at(&subject.store, 2).await.unwrap()["a"], "0");
    let mut watch = subject
        .store
        .watch(WatchRequest::prefix(b"a").from(revision(2)))
        .await
        .unwrap();
    assert_eq!(brief(&next(&mut watch).await.unwrap()), ["+a=0@2"]);
    let again = subject.store.compact(revision(4)).await;
    assert_eq!(
        again,
        Err(CompactError::Compacted {
            compact_revision: revision(4)
        })
    );
    let future = subject.store.compact(revision(7)).await;
    assert_eq!(
        future,
        Err(CompactError::FutureRevision {
            revision: revision(6)
        })
    );
}

async fn history_gives_way_at_its_limit(kind: Kind) {
    let history = HistoryPolicy {
        max_revisions: 10,
        ..HistoryPolicy::default()
    };
    let subject = Subject::with_history(kind, history);
    for n in 0..30 {
        put(&subject.store, &format!("k{}", n % 3), &n.to_string()).await;
    }
    let status = subject.store.status();
    assert_eq!(
        (status.revision, status.history_horizon),
        (revision(31), revision(21))
    );
    // The API cannot promise what is gone.
    assert_eq!(status.compact_revision, revision(21));
    assert_eq!(all_at(&subject.store, 21).await.unwrap().len(), 3);
    let lost = Err(RangeError::Compacted {
        compact_revision: revision(21),
    });
    assert_eq!(all_at(&subject.store, 20).await, lost);
}

async fn history_gives_way_with_age(kind: Kind) {
    let minutes = Arc::new(AtomicU64::new(0));
    let clock = {
        let minutes = Arc::clone(&minutes);
        WallClock::new(move || UNIX_EPOCH + Duration::from_mins(1_000_000 + minutes.load(Ordering::SeqCst)))
    };
    let subject = Subject::with_clock(kind, HistoryPolicy::default(), clock);
    for n in 0..100 {
        minutes.store(n, Ordering::SeqCst);
        put(&subject.store, "a", &n.to_string()).await;
    }
    // Written at minute 99 is revision 101; at minute 39, an hour before, 41.
    assert_eq!(subject.store.status().history_horizon, revision(40));
    assert_eq!(all_at(&subject.store, 40).await.unwrap()["a"], "38");
}

async fn history_gives_way_when_its_values_take_too_much(kind: Kind) {
    let history = HistoryPolicy {
        max_value_bytes: 20_000,
        ..HistoryPolicy::default()
    };
    let subject = Subject::with_history(kind, history);
    for n in 0..100_u64 {
        put(&subject.store, "a", &"x".repeat(1000)).await;
        put(&subject.store, &format!("live-{n}"), &"x".repeat(1000)).await;
    }
    let status = subject.store.status();
    let kept = status.revision.get() - status.history_horizon.get();
    assert!(
        (30..=42).contains(&kept),
        "{kept} revisions, every other replaces a value"
    );
}

async fn a_watch_sees_changes_in_order_with_what_they_replaced(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "p/a", "1").await;
    let mut watch = subject
        .store
        .watch(WatchRequest::prefix(b"p/").with_prev())
        .await
        .unwrap();
    put(&subject.store, "p/a", "2").await;
    put(&subject.store, "q/a", "1").await;
    put(&subject.store, "p/b", "1").await;
    delete(&subject.store, "p/a").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(brief(&next(&mut watch).await.unwrap()));
    }
    assert_eq!(seen, ["+p/a=2@3 (was 1)", "+p/b=1@5", "-p/a@6 (was 2)"]);
}

async fn a_watch_replays_and_goes_live_without_gap_or_duplicate(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "a", "1").await;
    put(&subject.store, "a", "2").await;
    put(&subject.store, "b", "1").await;
    let request = WatchRequest::prefix(b"a").from(revision(2)).with_prev();
    let mut watch = subject.store.watch(request).await.unwrap();
    put(&subject.store, "a", "3").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(brief(&next(&mut watch).await.unwrap()));
    }
    assert_eq!(seen, ["+a=1@2", "+a=2@3 (was 1)", "+a=3@5 (was 2)"]);
}

async fn a_long_replay_under_writes_has_no_gap_or_duplicate(kind: Kind) {
    let subject = Subject::new(kind);
    for n in 0..1500_u32 {
        put(&subject.store, &format!("k{}", n % 7), &n.to_string()).await;
    }
    let store = Arc::clone(&subject.store);
    let mut watch = subject
        .store
        .watch(WatchRequest::prefix(b"k").from(revision(2)))
        .await
        .unwrap();
    let writer = async {
        for n in 1500..2000_u32 {
            put(&store, &format!("k{}", n % 7), &n.to_string()).await;
        }
    };
    let reader = async {
        for expected in 2..2002 {
            assert_eq!(next(&mut watch).await.unwrap().revision, revision(expected));
        }
    };
    tokio::join!(writer, reader);
}

async fn a_watch_from_lost_history_fails(kind: Kind) {
    let history = HistoryPolicy {
        max_revisions: 5,
        ..HistoryPolicy::default()
    };
    let subject = Subject::with_history(kind, history);
    for n in 0..20 {
        put(&subject.store, "a", &n.to_string()).await;
    }
    let lost = subject
        .store
        .watch(WatchRequest::prefix(b"a").from(revision(16)))
        .await
        .err();
    assert_eq!(
        lost,
        Some(WatchError::Compacted {
            horizon: revision(16)
        })
    );
    let mut watch = subject
        .store
        .watch(WatchRequest::prefix(b"a").from(revision(17)).with_prev())
        .await
        .unwrap();
    assert_eq!(brief(&next(&mut watch).await.unwrap()), ["+a=15@17 (was 14)"]);
}

async fn a_watch_in_the_future_waits_for_it(kind: Kind) {
    let subject = Subject::new(kind);
    let mut watch = subject
        .store
        .watch(WatchRequest::prefix(b"a").from(revision(4)))
        .await
        .unwrap();
    for n in 0..3 {
        put(&subject.store, "a", &n.to_string()).await;
    }
    assert_eq!(brief(&next(&mut watch).await.unwrap()), ["+a=2@4"]);
}

async fn a_slow_watch_is_cut_off_and_nobody_waits(kind: Kind) {
    let subject = Subject::new(kind);
    let mut slow = subject
        .store
        .watch(WatchRequest::prefix(b"a").buffer(3))
        .await
        .unwrap();
    let mut quick = subject.store.watch(WatchRequest::prefix(b"a")).await.unwrap();
    for n in 0..5 {
        put(&subject.store, "a", &n.to_string()).await;
    }
    for expected in 2..5 {
        assert_eq!(next(&mut slow).await.unwrap().revision, revision(expected));
    }
    assert_eq!(next(&mut slow).await, Err(WatchError::Lagging));
    for expected in 2..7 {
        assert_eq!(next(&mut quick).await.unwrap().revision, revision(expected));
    }
    assert_eq!(subject.store.status().watchers, 1);
    drop(quick);
    assert_eq!(subject.store.status().watchers, 0);
}

async fn a_slow_watch_that_resumes_misses_nothing(kind: Kind) {
    let subject = Subject::new(kind);
    let request = WatchRequest::prefix(b"a").buffer(3).resuming();
    let mut watch = subject.store.watch(request).await.unwrap();
    let frontier = watch.frontier();
    for n in 0..10 {
        put(&subject.store, "a", &n.to_string()).await;
        put(&subject.store, "other", "x").await;
    }
    for n in 0..10 {
        let applied = next(&mut watch).await.unwrap().revision;
        assert_eq!(applied, revision(2 + 2 * n));
        let complete = if n < 9 { applied } else { revision(21) };
        assert_eq!(frontier.complete_to(applied), complete, "after {applied}");
    }
    put(&subject.store, "a", "live").await;
    assert_eq!(brief(&next(&mut watch).await.unwrap()), ["+a=live@22"]);
}

async fn progress_passes_a_quiet_range(kind: Kind) {
    let subject = Subject::new(kind);
    let mut watch = subject
        .store
        .watch(WatchRequest::prefix(b"quiet/").with_progress())
        .await
        .unwrap();
    put(&subject.store, "other", "1").await;
    assert_eq!(
        next(&mut watch).await,
        Ok(WatchBatch {
            revision: revision(2),
            events: vec![]
        })
    );
    put(&subject.store, "quiet/a", "1").await;
    assert_eq!(brief(&next(&mut watch).await.unwrap()), ["+quiet/a=1@3"]);
}

async fn the_frontier_tells_what_is_complete(kind: Kind) {
    let subject = Subject::new(kind);
    put(&subject.store, "mine/a", "1").await;
    let mut watch = subject
        .store
        .watch(WatchRequest::prefix(b"mine/").from(revision(2)))
        .await
        .unwrap();
    let frontier = watch.frontier();
    assert_eq!(frontier.complete_to(revision(1)), revision(1));
    let applied = next(&mut watch).await.unwrap().revision;
    put(&subject.store, "other", "1").await;
    assert_eq!(frontier.complete_to(applied), revision(3));
    put(&subject.store, "mine/b", "1").await;
    put(&subject.store, "other", "2").await;
    assert_eq!(frontier.complete_to(applied), applied);
    let applied = next(&mut watch).await.unwrap().revision;
    assert_eq!(frontier.complete_to(applied), revision(5));
}

async fn an_acknowledged_change_is_queued_for_every_watch(kind: Kind) {
    let subject = Subject::new(kind);
    let mut watch = subject.store.watch(WatchRequest::prefix(b"a")).await.unwrap();
    for n in 0..50 {
        let at = put(&subject.store, "a", &n.to_string()).await;
        assert_eq!(watch.try_next().map(|batch| batch.revision), Some(revision(at)));
    }
}

async fn a_revoked_lease_takes_its_keys(kind: Kind) {
    let subject = Subject::new(kind);
    let store = &subject.store;
    let lease = store.lease_grant(None, Duration::from_mins(1)).await.unwrap();
    assert_eq!(
        store.lease_grant(Some(lease), Duration::from_secs(1)).await,
        Err(LeaseError::Exists(lease))
    );
    let txn = Txn::new()
        .put_with_lease("a", "1", lease)
        .put_with_lease("b", "1", lease)
        .put("c", "1");
    store.txn(txn).await.unwrap();
    let mut watch = store.watch(WatchRequest::new(KeyRange::all())).await.unwrap();
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(brief(&next(&mut watch).await.unwrap()), ["-a@3", "-b@3"]);
    assert_eq!(store.lease_revoke(lease).await, Err(LeaseError::NotFound(lease)));
    assert_eq!(
        store.lease_keep_alive(lease).await,
        Err(LeaseError::NotFound(lease))
    );
    assert_eq!(get(store, "c").await.as_deref(), Some("1"));
}

async fn an_expired_lease_takes_its_keys(kind: Kind) {
    let subject = Subject::new(kind);
    let store = &subject.store;
    let lease = store.lease_grant(None, Duration::from_millis(20)).await.unwrap();
    let mut watch = store
        .watch(WatchRequest::prefix(b"a").from(revision(2)))
        .await
        .unwrap();
    // The lease may be gone already on a busy machine: then that is what is seen.
    if store
        .txn(Txn::new().put_with_lease("a", "1", lease))
        .await
        .is_ok()
    {
        assert_eq!(brief(&next(&mut watch).await.unwrap()), ["+a=1@2"]);
        assert_eq!(brief(&next(&mut watch).await.unwrap()), ["-a@3"]);
    }
    assert_eq!(
        store.lease_keep_alive(lease).await,
        Err(LeaseError::NotFound(lease))
    );
}

async fn a_lease_kept_alive_lives(kind: Kind) {
    let subject = Subject::new(kind);
    let store = &subject.store;
    let kept = store.lease_grant(None, Duration::from_hours(1)).await.unwrap();
    assert_eq!(store.lease_keep_alive(kept).await, Ok(Duration::from_hours(1)));
    store
        .txn(Txn::new().put_with_lease("a", "1", kept))
        .await
        .unwrap();
    assert_eq!(get(store, "a").await.as_deref(), Some("1"));
}

async fn a_key_put_anew_leaves_its_lease(kind: Kind) {
    let subject = Subject::new(kind);
    let store = &subject.store;
    let lease = store.lease_grant(None, Duration::from_mins(1)).await.unwrap();
    store
        .txn(Txn::new().put_with_lease("a", "1", lease))
        .await
        .unwrap();
    put(store, "a", "2").await;
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(get(store, "a").await.as_deref(), Some("2"));
}

async fn a_closed_store_takes_nothing_and_ends_watches(kind: Kind) {
    let subject = Subject::new(kind);
    let mut watch = subject.store.watch(WatchRequest::prefix(b"a")).await.unwrap();
    put(&subject.store, "a", "1").await;
    subject.store.close().await;
    assert_eq!(
        subject.store.txn(Txn::new().put("a", "2")).await,
        Err(TxnError::Closed)
    );
    assert_eq!(brief(&next(&mut watch).await.unwrap()), ["+a=1@2"]);
    assert_eq!(next(&mut watch).await, Err(WatchError::Closed));
    assert_eq!(get(&subject.store, "a").await.as_deref(), Some("1"));
}
