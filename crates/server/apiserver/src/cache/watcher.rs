//! One open watch: initial objects, then events, bookmarks in between, until its time is over.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cloudeck_engine::{EventKind, Revision, Store, WatchError, WatchRequest, WatchStream};
use cloudeck_machinery::{Object, Reason, Status};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::event::EventType;
use super::{CacheEvent, Frontier, feed};
use crate::kinds::Kind;
use crate::selection::Selection;

/// How often a watch that allows bookmarks gets one: as upstream, about once a minute.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);

/// What a watch yields.
pub(crate) enum Delivery {
    /// `event` is there when the frame can be shared with other watchers.
    Object {
        kind: EventType,
        object: Arc<Object>,
        event: Option<Arc<CacheEvent>>,
    },
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
    /// The last delivery.
    Error(Status),
}

/// What a watch is opened with.
pub(crate) struct WatchSetup {
    pub(crate) kind: Arc<Kind>,
    pub(crate) selection: Selection,
    /// Objects to begin with, as ADDED.
    pub(crate) initial: Vec<Arc<Object>>,
    /// Events after this revision follow.
    pub(crate) cursor: u64,
    /// Send the bookmark that ends the initial events.
    pub(crate) mark_initial: bool,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Duration,
}

pub(crate) struct Watcher {
    kind: Arc<Kind>,
    selection: Selection,
    frontier: Arc<Frontier>,
    store: Arc<dyn Store>,
    initial: std::vec::IntoIter<Arc<Object>>,
    mark_initial: bool,
    ready: VecDeque<Arc<CacheEvent>>,
    cursor: u64,
    changed: watch::Receiver<()>,
    /// Replay from the datastore's history while the cursor is older than the cache's ring.
    history: Option<WatchStream>,
    bookmarks: Option<Instant>,
    deadline: Instant,
    /// Made once: a timer per event would cost more than the event.
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

enum Woken {
    Changed,
    BookmarkDue,
    TimeOver,
}

impl Watcher {
    /// Opens a watch. History is asked only if the cache no longer reaches back to the cursor.
    pub(crate) async fn open(
        setup: WatchSetup,
        frontier: Arc<Frontier>,
        store: Arc<dyn Store>,
    ) -> Result<Self, Status> {
        let now = Instant::now();
        let mut watcher = Self {
            changed: setup.kind.cache.subscribe(),
            kind: setup.kind,
            selection: setup.selection,
            frontier,
            store,
            initial: setup.initial.into_iter(),
            mark_initial: setup.mark_initial,
            ready: VecDeque::new(),
            cursor: setup.cursor,
            history: None,
            bookmarks: setup.bookmarks.then(|| now + BOOKMARK_EVERY),
            deadline: now + setup.timeout,
            timer: Box::pin(tokio::time::sleep_until(now + setup.timeout)),
            ended: false,
        };
        match watcher.kind.cache.events_after(watcher.cursor) {
            Ok(events) => watcher.ready.extend(events),
            Err(super::Behind) => watcher.open_history().await?,
        }
        Ok(watcher)
    }

    async fn open_history(&mut self) -> Result<(), Status> {
        let from = Revision::new(self.cursor + 1).ok_or_else(|| too_old(self.cursor, 0))?;
        // With progress: a kind that has been quiet since then goes live at once.
        let request = WatchRequest::prefix(self.kind.prefix.as_bytes())
            .from(from)
            .with_prev()
            .with_progress();
        let stream = self
            .store
            .watch(request)
            .await
            .map_err(|error| self.history_error(&error))?;
        self.history = Some(stream);
        Ok(())
    }

    fn history_error(&self, error: &WatchError) -> Status {
        match error {
            WatchError::Compacted { horizon } => too_old(self.cursor, horizon.get()),
            other => Status::internal(other),
        }
    }

    /// The next delivery; `None` when the watch is over.
    ///
    /// Cancel safety: nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        if self.ended {
            return None;
        }
        if let Some(object) = self.initial.next() {
            return Some(Delivery::Object {
                kind: EventType::Added,
                object,
                event: None,
            });
        }
        if std::mem::take(&mut self.mark_initial) {
            return Some(Delivery::Bookmark {
                revision: self.cursor,
                initial_events_end: true,
            });
        }
        loop {
            if let Some(delivery) = self.next_ready() {
                return Some(delivery);
            }
            if self.history.is_some() {
                if let Err(status) = self.replay().await {
                    return Some(self.fail(status));
                }
                continue;
            }
            // Before the events: what the frontier covers is among them.
            let complete = self.frontier.revision();
            self.changed.borrow_and_update();
            match self.kind.cache.events_after(self.cursor) {
                Err(super::Behind) => return Some(self.fail(too_old(self.cursor, complete))),
                Ok(events) if !events.is_empty() => self.ready.extend(events),
                Ok(_) => match self.sleep().await {
                    Woken::Changed => {}
                    Woken::BookmarkDue => return Some(self.bookmark(complete)),
                    Woken::TimeOver => {
                        self.ended = true;
                        // Upstream, too, ends a watch that wants bookmarks with one.
                        return self.bookmarks.is_some().then(|| self.bookmark(complete));
                    }
                },
            }
        }
    }

    /// What can be had without waiting.
    pub(crate) fn next_ready(&mut self) -> Option<Delivery> {
        if self.initial.len() > 0 {
            let object = self.initial.next()?;
            return Some(Delivery::Object {
                kind: EventType::Added,
                object,
                event: None,
            });
        }
        if self.mark_initial {
            return None;
        }
        while let Some(event) = self.ready.pop_front() {
            self.cursor = event.revision;
            let selection = &self.selection;
            if let Some((kind, object)) = event.seen_by(|object| selection.matches(object)) {
                return Some(Delivery::Object {
                    kind,
                    object,
                    event: Some(event),
                });
            }
        }
        None
    }

    fn fail(&mut self, status: Status) -> Delivery {
        self.ended = true;
        Delivery::Error(status)
    }

    fn bookmark(&mut self, complete: u64) -> Delivery {
        self.bookmarks = self.bookmarks.map(|_| Instant::now() + BOOKMARK_EVERY);
        self.cursor = self.cursor.max(complete);
        Delivery::Bookmark {
            revision: self.cursor,
            initial_events_end: false,
        }
    }

    async fn sleep(&mut self) -> Woken {
        let wake = self.bookmarks.map_or(self.deadline, |due| due.min(self.deadline));
        if self.timer.deadline() != wake {
            self.timer.as_mut().reset(wake);
        }
        tokio::select! {
            biased;
            // The sender lives as long as the kind, which this watcher holds.
            _ = self.changed.changed() => Woken::Changed,
            () = &mut self.timer => if wake == self.deadline { Woken::TimeOver } else { Woken::BookmarkDue },
        }
    }

    /// Takes one batch of history, and leaves history as soon as the cache reaches back far enough.
    async fn replay(&mut self) -> Result<(), Status> {
        if let Ok(events) = self.kind.cache.events_after(self.cursor) {
            self.history = None;
            self.ready.extend(events);
            return Ok(());
        }
        let Some(stream) = &mut self.history else {
            return Ok(());
        };
        let batch = stream.next().await.map_err(|error| self.history_error(&error))?;
        for event in &batch.events {
            if let Some(event) = self.past_event(event, batch.revision)? {
                self.ready.push_back(Arc::new(event));
            }
        }
        if self.ready.is_empty() {
            self.cursor = self.cursor.max(batch.revision.get());
        }
        Ok(())
    }

    fn past_event(&self, event: &cloudeck_engine::Event, at: Revision) -> Result<Option<CacheEvent>, Status> {
        let prev = event
            .prev
            .as_ref()
            .map(|kv| feed::build(&self.kind, kv))
            .transpose();
        let prev = prev.map_err(Status::internal)?.map(Arc::new);
        Ok(match event.kind {
            EventKind::Put => {
                let object = feed::build(&self.kind, &event.kv).map_err(Status::internal)?;
                Some(CacheEvent::put(at.get(), Arc::new(object), prev))
            }
            EventKind::Delete => prev.map(|prev| CacheEvent::delete(at.get(), &prev)),
        })
    }
}

/// 410: the revision is older than what can still be watched.
pub(crate) fn too_old(wanted: u64, oldest: u64) -> Status {
    Status::new(
        Reason::Expired,
        format!("too old resource version: {wanted} ({oldest})"),
    )
}
