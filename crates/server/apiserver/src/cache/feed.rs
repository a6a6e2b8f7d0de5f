//! Carries the datastore's changes into the caches, in revision order.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use cloudeck_engine::{
    EventKind, KeyValue, RangeRequest, Revision, Store, WatchBatch, WatchError, WatchRequest, WatchStream,
};
use cloudeck_machinery::json::{self, JsonError};
use cloudeck_machinery::{Object, Value};

use super::pending::Pending;
use super::{CacheEvent, Frontier, splice};
use crate::kinds::{Kind, Kinds};

/// Where objects live in the datastore.
pub(crate) const ROOT: &[u8] = b"/registry/";
/// Keys read at once while loading.
const LOAD_PAGE: usize = 5_000;
/// Batches applied before waiters are told.
const BURST: usize = 512;
/// How often a writer looks whether another has applied his write: some ten microseconds.
const TRIES: usize = 300;

/// Is told of every change after the caches hold it and before anybody waiting for the revision is.
pub(crate) trait Observer: Send + Sync {
    /// `tree` is the new content; `None` after the deletion, when `object` is the last there was.
    fn changed(&self, kind: &Kind, object: &Object, tree: Option<&Value>);
}

/// Why the caches could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("reading the datastore")]
    Range(#[from] cloudeck_engine::RangeError),
    #[error("watching the datastore")]
    Watch(#[from] WatchError),
    /// Going on without the object would let controllers act as if it had been deleted.
    #[error(
        "the value that the datastore holds at {key} since revision {revision} is no object that can be read: \
         start from a copy of the datastore of before that revision, or delete the key from it"
    )]
    Unreadable {
        key: String,
        revision: u64,
        #[source]
        why: UnreadableValue,
    },
}

/// What is wrong with a stored value.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableValue {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("it is an object without metadata")]
    NoMetadata,
}

pub(crate) struct Feed {
    store: Arc<dyn Store>,
    kinds: Arc<Kinds>,
    frontier: Arc<Frontier>,
    pending: Arc<Pending>,
    observers: Vec<Arc<dyn Observer>>,
    /// While it is live: the follower and the writers take turns at it.
    live: Mutex<Option<Live>>,
    /// Why a writer took the stream away.
    broken: Mutex<Option<FeedError>>,
}

/// What is committed, as it comes.
struct Live {
    stream: WatchStream,
    /// Kinds that a writer has changed. The follower wakes their watchers: the same commit has woken it, and the writer's
    /// client need not wait for that.
    unannounced: Vec<Arc<Kind>>,
}

impl Live {
    fn announce(&mut self) {
        for kind in self.unannounced.drain(..) {
            kind.cache.announce();
        }
    }
}

impl Feed {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        kinds: Arc<Kinds>,
        frontier: Arc<Frontier>,
        pending: Arc<Pending>,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Self {
        Self {
            store,
            kinds,
            frontier,
            pending,
            observers,
            live: Mutex::default(),
            broken: Mutex::default(),
        }
    }

    /// Fills every cache with the datastore's present content and opens the watch that continues from there.
    pub(crate) async fn load(&self) -> Result<WatchStream, FeedError> {
        let mut objects: Vec<Vec<Arc<Object>>> = self.kinds.all().iter().map(|_| Vec::new()).collect();
        let revision = self.store.revision();
        let mut range = RangeRequest::prefix(ROOT)
            .at(revision)
            .limit(LOAD_PAGE)
            .with_history();
        loop {
            let page = self.store.range(range.clone()).await?;
            for kv in &page.kvs {
                if let Some(kind) = self.kinds.of_key(&kv.key) {
                    let (object, tree) = build_with_tree(kind, kv)?;
                    self.tell(kind, &object, Some(&tree));
                    objects[kind.index].push(Arc::new(object));
                }
            }
            let Some(last) = page.kvs.last().filter(|_| page.more) else {
                break;
            };
            let mut next = last.key.to_vec();
            next.push(0);
            range.range.start = Bytes::from(next);
        }
        for (kind, objects) in self.kinds.all().iter().zip(objects) {
            kind.cache.load(objects, revision.get());
        }
        let stream = self.open(revision.next()).await?;
        self.frontier.advance(revision.get());
        Ok(stream)
    }

    async fn open(&self, from: Revision) -> Result<WatchStream, FeedError> {
        let stream = self.store.watch(WatchRequest::prefix(ROOT).from(from)).await?;
        let complete = stream.frontier();
        self.frontier.follow(move |applied| {
            Revision::new(applied).map_or(applied, |applied| complete.complete_to(applied).get())
        });
        Ok(stream)
    }

    /// Applies changes until the datastore is closed.
    pub(crate) async fn run(&self, mut stream: WatchStream) -> Result<(), FeedError> {
        loop {
            let ended = match self.go_live(stream).await {
                Ok(stream) => {
                    *self.live() = Some(Live {
                        stream,
                        unannounced: Vec::new(),
                    });
                    self.follow().await
                }
                Err(error) => error,
            };
            match ended {
                FeedError::Watch(WatchError::Closed) => return Ok(()),
                FeedError::Watch(WatchError::Lagging) => {
                    let applied = self.frontier.applied();
                    tracing::warn!(
                        revision = applied,
                        "cache feed fell behind, resuming from history"
                    );
                    stream = self.open(Revision::new(applied + 1).unwrap_or_default()).await?;
                }
                error => return Err(error),
            }
        }
    }

    /// Applies history until the stream has come to the present.
    async fn go_live(&self, mut stream: WatchStream) -> Result<WatchStream, FeedError> {
        while !stream.is_live() {
            let batch = stream.next().await?;
            let kinds = self.apply(&batch)?;
            for kind in kinds {
                kind.cache.announce();
            }
            self.frontier.advance(batch.revision.get());
        }
        Ok(stream)
    }

    /// Applies what is committed, until it cannot.
    async fn follow(&self) -> FeedError {
        let failed = poll_fn(|context| {
            let mut slot = self.live();
            let Some(live) = slot.as_mut() else {
                return Poll::Ready(self.broken().take());
            };
            live.announce();
            loop {
                let batch = match std::task::ready!(live.stream.poll_live(context)) {
                    Ok(batch) => batch,
                    Err(error) => return Poll::Ready(Some(error.into())),
                };
                let taken = self.take(batch, live);
                live.announce();
                if let Err(error) = taken {
                    return Poll::Ready(Some(error));
                }
            }
        });
        let error = failed.await.unwrap_or(FeedError::Watch(WatchError::Closed));
        *self.live() = None;
        error
    }

    /// Applies what is committed already: for a writer, whose write is, at `revision`, and who would otherwise wait
    /// until [`Feed::run`] gets its turn. Somebody who is at it already needs but a few microseconds for a write, so that
    /// it is cheaper to look again a few times than to be woken by him.
    pub(crate) fn catch_up(&self, revision: u64) {
        let mut tries = 0;
        let mut slot = loop {
            if self.frontier.applied() >= revision || tries == TRIES {
                return;
            }
            if let Ok(slot) = self.live.try_lock() {
                break slot;
            }
            tries += 1;
            std::hint::spin_loop();
        };
        let Some(live) = slot.as_mut() else {
            return;
        };
        let Some(batch) = live.stream.try_next() else {
            return;
        };
        if let Err(error) = self.take(batch, live) {
            live.announce();
            // The follower was woken by the same batch and finds the stream gone.
            *self.broken() = Some(error);
            *slot = None;
        }
    }

    fn live(&self) -> MutexGuard<'_, Option<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, Option<FeedError>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a batch and those that wait behind it, then lets the waiters go.
    fn take(&self, batch: WatchBatch, live: &mut Live) -> Result<(), FeedError> {
        let mut revision = batch.revision.get();
        self.apply_to(live, &batch)?;
        for _ in 0..BURST {
            let Some(batch) = live.stream.try_next() else {
                break;
            };
            revision = batch.revision.get();
            self.apply_to(live, &batch)?;
        }
        self.frontier.advance(revision);
        Ok(())
    }

    fn apply_to(&self, live: &mut Live, batch: &WatchBatch) -> Result<(), FeedError> {
        for kind in self.apply(batch)? {
            if !live.unannounced.iter().any(|other| other.index == kind.index) {
                live.unannounced.push(Arc::clone(kind));
            }
        }
        Ok(())
    }

    /// Answers the kinds that it changed.
    fn apply(&self, batch: &WatchBatch) -> Result<Vec<&Arc<Kind>>, FeedError> {
        let mut changes: Vec<(&Arc<Kind>, Vec<Arc<CacheEvent>>)> = Vec::with_capacity(1);
        for event in &batch.events {
            let Some(kind) = self.kinds.of_key(&event.kv.key) else {
                continue;
            };
            let Some(event) = self.cache_event(kind, event, batch.revision)? else {
                continue;
            };
            match changes.iter_mut().find(|(other, _)| other.index == kind.index) {
                Some((_, events)) => events.push(Arc::new(event)),
                None => changes.push((kind, vec![Arc::new(event)])),
            }
        }
        let apply = |(kind, events): (_, Vec<_>)| {
            let kind: &Arc<Kind> = kind;
            kind.cache.apply(events);
            kind
        };
        Ok(changes.into_iter().map(apply).collect())
    }

    fn cache_event(
        &self,
        kind: &Kind,
        event: &cloudeck_engine::Event,
        revision: Revision,
    ) -> Result<Option<CacheEvent>, FeedError> {
        let (namespace, name) = kind.split_key(&event.kv.key);
        let prev = kind.cache.get(namespace, name);
        Ok(match event.kind {
            EventKind::Put => {
                let (object, tree) = match self.pending.take(&event.kv.key, &event.kv.value) {
                    Some(tree) => (build_of(kind, &event.kv, &tree)?, tree),
                    None => build_with_tree(kind, &event.kv)?,
                };
                self.tell(kind, &object, Some(&tree));
                Some(CacheEvent::put(revision.get(), Arc::new(object), prev))
            }
            EventKind::Delete => prev.map(|prev| {
                self.tell(kind, &prev, None);
                CacheEvent::delete(revision.get(), &prev)
            }),
        })
    }

    fn tell(&self, kind: &Kind, object: &Object, tree: Option<&Value>) {
        for observer in &self.observers {
            observer.changed(kind, object, tree);
        }
    }
}

/// The cached object of a stored value.
pub(crate) fn build(kind: &Kind, kv: &KeyValue) -> Result<Object, FeedError> {
    build_with_tree(kind, kv).map(|(object, _)| object)
}

fn build_with_tree(kind: &Kind, kv: &KeyValue) -> Result<(Object, Value), FeedError> {
    let tree = json::parse(&kv.value).map_err(|why| unreadable(kv, why.into()))?;
    let object = build_of(kind, kv, &tree)?;
    Ok((object, tree))
}

/// As [`build`], with the tree of the value at hand.
fn build_of(kind: &Kind, kv: &KeyValue, tree: &Value) -> Result<Object, FeedError> {
    let revision = kv.mod_revision.get();
    let json = splice::with_revision(&kv.value, revision)
        .ok_or_else(|| unreadable(kv, UnreadableValue::NoMetadata))?;
    let mut object = Object::from_parts(json, tree, (kind.strategy.fields)(tree));
    object.revision = revision;
    Ok(object)
}

fn unreadable(kv: &KeyValue, why: UnreadableValue) -> FeedError {
    FeedError::Unreadable {
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        revision: kv.mod_revision.get(),
        why,
    }
}
