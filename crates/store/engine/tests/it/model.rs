//! Random changes, compactions and crashes against a model that is nothing but maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_engine::sim::{Dice, Faults, SimDisk};
use cloudeck_engine::{
    CompactError, EmbeddedOptions, EmbeddedStore, EventKind, HistoryPolicy, KeeperMode, KeyRange,
    RangeRequest, Revision, Store, Txn, TxnError, WatchRequest,
};
use cloudeck_task::Scope;
use proptest::prelude::*;

use crate::subject::revision;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Put {
        key: u8,
        size: u16,
    },
    Delete {
        key: u8,
    },
    /// Puts some keys and deletes others, together.
    Several {
        puts: Vec<u8>,
        deletes: Vec<u8>,
    },
    /// A compare that holds or not.
    Swap {
        key: u8,
        right: bool,
    },
    Compact {
        back: u8,
    },
    /// The machine stops in the middle of one of the next changes of the disk.
    CrashSoon {
        changes: u8,
        seed: u64,
    },
    Reopen,
    /// Everything together may hold so much from now on, if anything.
    Squeeze {
        kilobytes: Option<u8>,
    },
}

/// Key, value, create revision, version.
type Keys = BTreeMap<String, (String, u64, u64)>;

/// Every state there ever was.
#[derive(Clone)]
struct Model {
    states: BTreeMap<u64, Keys>,
    revision: u64,
    compact: u64,
}

impl Model {
    fn new() -> Self {
        Self {
            states: BTreeMap::from([(1, Keys::new())]),
            revision: 1,
            compact: 0,
        }
    }

    fn now(&self) -> &Keys {
        &self.states[&self.revision]
    }

    fn at(&self, at: u64) -> &Keys {
        self.states.range(..=at).next_back().unwrap().1
    }

    /// The model after these changes, or the same if they change nothing.
    fn after(&self, puts: &[(String, String)], deletes: &[String]) -> Self {
        let mut next = self.now().clone();
        let at = self.revision + 1;
        let mut changed = !puts.is_empty();
        for key in deletes {
            changed |= next.remove(key).is_some();
        }
        for (key, value) in puts {
            let (create, version) = next
                .get(key)
                .map_or((at, 1), |(_, create, version)| (*create, version + 1));
            next.insert(key.clone(), (value.clone(), create, version));
        }
        let mut after = self.clone();
        if changed {
            after.revision = at;
            after.states.insert(at, next);
        }
        after
    }
}

pub(crate) fn small_options() -> EmbeddedOptions {
    EmbeddedOptions {
        history: HistoryPolicy {
            max_revisions: 12,
            ..HistoryPolicy::default()
        },
        segment_bytes: 4 << 10,
        keeper: KeeperMode::WithCommits,
        store_id: Some(cloudeck_engine::embedded::StoreId([9; 16])),
        ..EmbeddedOptions::default()
    }
}

/// A store on a simulated disk, with what it must hold.
struct Run {
    disk: SimDisk,
    store: EmbeddedStore,
    scope: Scope,
    model: Model,
    /// What a change whose outcome is not known would make of the model.
    in_doubt: Option<Model>,
    dice: Dice,
    faults: Faults,
    written: u64,
}

impl Run {
    fn new() -> Self {
        let disk = SimDisk::new();
        let scope = Scope::root("model");
        let store = EmbeddedStore::open_on(Arc::new(disk.clone()), small_options(), &scope).unwrap();
        Self {
            disk,
            store,
            scope,
            model: Model::new(),
            in_doubt: None,
            dice: Dice::new(0),
            faults: Faults::default(),
            written: 0,
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Put { key, size } => self.put_and_delete(&[*key], &[], *size).await,
            Step::Delete { key } => self.put_and_delete(&[], &[*key], 0).await,
            Step::Several { puts, deletes } => {
                let mut puts = puts.clone();
                puts.sort_unstable();
                puts.dedup();
                let mut deletes = deletes.clone();
                deletes.sort_unstable();
                deletes.dedup();
                deletes.retain(|key| !puts.contains(key));
                self.put_and_delete(&puts, &deletes, 20).await;
            }
            Step::Swap { key, right } => self.swap(*key, *right).await,
            Step::Compact { back } => self.compact(u64::from(*back)).await,
            Step::CrashSoon { changes, seed } => {
                self.dice = Dice::new(*seed);
                self.faults.changes_until_crash = Some(u64::from(*changes));
                self.disk.set_faults(self.faults.clone());
            }
            Step::Squeeze { kilobytes } => {
                self.faults.capacity = kilobytes.map(|kilobytes| u64::from(kilobytes) << 10);
                self.disk.set_faults(self.faults.clone());
            }
            Step::Reopen => self.reopen(false).await,
        }
        if self.disk.has_stopped() {
            self.reopen(true).await;
        }
    }

    fn value(&mut self, size: u16) -> String {
        self.written += 1;
        format!("{}-{}", self.written, "x".repeat(size as usize))
    }

    async fn put_and_delete(&mut self, puts: &[u8], deletes: &[u8], size: u16) {
        let puts: Vec<_> = puts
            .iter()
            .map(|key| (format!("k{key}"), self.value(size)))
            .collect();
        let deletes: Vec<_> = deletes.iter().map(|key| format!("k{key}")).collect();
        let mut txn = Txn::new();
        for (key, value) in &puts {
            txn = txn.put(key.clone(), value.clone());
        }
        for key in &deletes {
            txn = txn.delete(key.clone());
        }
        let after = self.model.after(&puts, &deletes);
        self.run(txn, after).await;
    }

    async fn swap(&mut self, key: u8, right: bool) {
        let name = format!("k{key}");
        let value = self.value(10);
        let request = RangeRequest::key(name.as_bytes());
        let Ok(found) = self.store.range(request).await else {
            return;
        };
        let txn = match (found.kvs.first(), right) {
            (Some(kv), true) => Txn::new().expect_revision(name.clone(), kv.mod_revision),
            (Some(kv), false) => Txn::new().expect_revision(name.clone(), kv.mod_revision.previous()),
            (None, true) => Txn::new().expect_absent(name.clone()),
            (None, false) => Txn::new().expect_revision(name.clone(), revision(1)),
        };
        let after = if right {
            self.model.after(&[(name.clone(), value.clone())], &[])
        } else {
            self.model.clone()
        };
        self.run(txn.put(name, value), after).await;
    }

    async fn run(&mut self, txn: Txn, after: Model) {
        match self.store.txn(txn).await {
            Ok(response) => {
                assert_eq!(response.revision.get(), after.revision);
                self.model = after;
            }
            // A clean refusal.
            Err(TxnError::NoSpace) => {}
            Err(_) => self.in_doubt = Some(after),
        }
    }

    async fn compact(&mut self, back: u64) {
        let to = self.model.revision.saturating_sub(back).max(1);
        let mut after = self.model.clone();
        after.compact = after.compact.max(to);
        match self.store.compact(revision(to)).await {
            Ok(()) => self.model = after,
            Err(CompactError::Write(TxnError::NoSpace)) => {}
            Err(CompactError::Write(_)) => self.in_doubt = Some(after),
            Err(_) => {}
        }
    }

    async fn reopen(&mut self, crashed: bool) {
        self.store.close().await;
        if crashed {
            self.disk.crash(&mut self.dice);
            self.faults = Faults::default();
        }
        loop {
            let disk = Arc::new(self.disk.clone());
            let opened = EmbeddedStore::open_on(disk, small_options(), &self.scope);
            if let Ok(store) = &opened {
                // Answered when what the keeper does right after the opening is done.
                let _ = store.txn(Txn::new()).await;
            }
            if !self.disk.has_stopped() {
                self.store = opened.unwrap();
                break;
            }
            drop(opened);
            self.disk.crash(&mut self.dice);
            self.faults = Faults::default();
        }
        self.check().await;
    }

    /// The store holds what the model says, or what the change in doubt would make of it.
    async fn check(&mut self) {
        let status = self.store.status();
        if let Some(after) = self.in_doubt.take() {
            let happened = status.revision.get() == after.revision && after.revision > self.model.revision
                || status.compact_revision.get() >= after.compact && after.compact > self.model.compact;
            if happened {
                self.model = after;
            }
        }
        assert_eq!(status.revision.get(), self.model.revision, "the revision");
        assert!(
            status.compact_revision.get() >= self.model.compact,
            "the compact revision went back"
        );
        for at in status.history_horizon.get().max(1)..=self.model.revision {
            self.check_state(at).await;
        }
        self.check_watch(status.history_horizon).await;
    }

    async fn check_state(&self, at: u64) {
        let request = RangeRequest::new(KeyRange::all()).at(revision(at)).with_history();
        let found = self.store.range(request).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found = found.kvs.iter().map(|kv| {
            (
                text(&kv.key),
                (text(&kv.value), kv.create_revision.get(), kv.version),
            )
        });
        assert_eq!(&found.collect::<Keys>(), self.model.at(at), "the state at {at}");
    }

    /// Replaying history over the state at its horizon gives every later state.
    async fn check_watch(&self, horizon: Revision) {
        let request = WatchRequest::new(KeyRange::all())
            .from(horizon.next())
            .with_prev();
        let mut watch = self.store.watch(request).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut state = self.model.at(horizon.get().max(1)).clone();
        for at in horizon.next().get().max(2)..=self.model.revision {
            let batch = watch.next().await.unwrap();
            assert_eq!(batch.revision, revision(at), "one batch per revision");
            for event in batch.events {
                let key = text(&event.kv.key);
                let prev = state.remove(&key).map(|(value, ..)| value);
                assert_eq!(
                    event.prev.map(|kv| text(&kv.value)),
                    prev,
                    "what {key} was before {at}"
                );
                if event.kind == EventKind::Put {
                    let kv = event.kv;
                    state.insert(key, (text(&kv.value), kv.create_revision.get(), kv.version));
                }
            }
            assert_eq!(&state, self.model.at(at), "the events up to {at}");
        }
    }
}

pub(crate) fn run_steps(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut run = Run::new();
        for step in steps {
            run.step(step).await;
        }
        run.reopen(false).await;
        run.scope.request_shutdown();
    });
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..12_u8, 0..300_u16).prop_map(|(key, size)| Step::Put { key, size }),
        4 => (0..12_u8).prop_map(|key| Step::Delete { key }),
        3 => (prop::collection::vec(0..12_u8, 0..4), prop::collection::vec(0..12_u8, 0..4))
            .prop_map(|(puts, deletes)| Step::Several { puts, deletes }),
        2 => (0..12_u8, any::<bool>()).prop_map(|(key, right)| Step::Swap { key, right }),
        1 => (0..6_u8).prop_map(|back| Step::Compact { back }),
        2 => (0..12_u8, any::<u64>()).prop_map(|(changes, seed)| Step::CrashSoon { changes, seed }),
        1 => Just(Step::Reopen),
        1 => prop::option::of(30..90_u8).prop_map(|kilobytes| Step::Squeeze { kilobytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_half_written_appears(steps in prop::collection::vec(step(), 1..120)) {
        run_steps(&steps);
    }
}

/// A fixed history that rolls, trims and compacts, for crashes at every place.
fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..60_u8 {
        steps.push(Step::Put {
            key: n % 7,
            size: 200,
        });
        if n % 5 == 0 {
            steps.push(Step::Delete { key: (n / 5) % 7 });
        }
        if n % 11 == 0 {
            steps.push(Step::Several {
                puts: vec![1, 2, 8],
                deletes: vec![3, 4],
            });
            steps.push(Step::Compact { back: 3 });
        }
    }
    steps
}

#[test]
fn a_crash_at_any_change_of_the_disk_loses_nothing() {
    // Counted high enough: places beyond the script's end only repeat the last one.
    for place in (0..=u8::MAX).step_by(3) {
        let mut steps = script();
        steps.insert(
            1,
            Step::CrashSoon {
                changes: place,
                seed: u64::from(place),
            },
        );
        run_steps(&steps);
    }
}

#[test]
fn a_crash_during_the_recovery_of_a_crash_loses_nothing() {
    for place in 0..24_u8 {
        let mut steps = script();
        steps.insert(
            20,
            Step::CrashSoon {
                changes: 2,
                seed: u64::from(place),
            },
        );
        run_steps(&steps);
        run_recovery_crash(place);
    }
}

/// Stops again while the store is being opened after a crash.
fn run_recovery_crash(place: u8) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut run = Run::new();
        for step in script().iter().take(50) {
            run.step(step).await;
        }
        run.store.close().await;
        let mut dice = Dice::new(u64::from(place));
        run.disk.crash(&mut dice);
        let changes_until_crash = Some(u64::from(place));
        run.disk.set_faults(Faults {
            changes_until_crash,
            ..Faults::default()
        });
        let opened = EmbeddedStore::open_on(Arc::new(run.disk.clone()), small_options(), &run.scope);
        if let Ok(store) = opened {
            store.close().await;
        }
        run.disk.crash(&mut dice);
        run.store = EmbeddedStore::open_on(Arc::new(run.disk.clone()), small_options(), &run.scope).unwrap();
        run.check().await;
    });
}
