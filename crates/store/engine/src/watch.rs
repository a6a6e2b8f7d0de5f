//! The reader's side of a watch: replays history in chunks, then goes live without a gap or a duplicate.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, watch};

use crate::blocking::run_blocking;
use crate::error::WatchError;
use crate::model::{Revision, WatchBatch, WatchRequest};

/// Where a watch gets history and registers itself.
pub(crate) trait WatchSource: Send + Sync + 'static {
    /// A piece of history; with the last piece the watch becomes live.
    fn step(&self, request: &WatchRequest, cursor: &Cursor) -> Result<Step, WatchError>;

    fn unsubscribe(&self, id: u64);
}

/// How far a replay is.
#[derive(Clone)]
pub(crate) struct Cursor {
    /// The next revision to look at.
    pub(crate) next: Revision,
    /// The last one that had events for this watch.
    pub(crate) last_event: Revision,
    /// See [`Frontier`].
    pub(crate) sent: Arc<AtomicU64>,
}

pub(crate) struct Step {
    pub(crate) batches: Vec<WatchBatch>,
    /// Everything before it is in `batches` or was delivered earlier.
    pub(crate) next: Revision,
    pub(crate) live: Option<Live>,
}

/// The queue of a live watch.
pub(crate) struct Live {
    pub(crate) id: u64,
    pub(crate) queue: mpsc::Receiver<WatchBatch>,
    pub(crate) ended: Arc<OnceLock<WatchError>>,
}

/// The ordered changes of a range, one batch per revision.
///
/// Dropping it ends the watch.
pub struct WatchStream {
    source: Arc<dyn WatchSource>,
    request: WatchRequest,
    ready: VecDeque<WatchBatch>,
    cursor: Cursor,
    /// Everything up to here was delivered.
    position: Revision,
    live: Option<Live>,
    published: watch::Receiver<Revision>,
}

impl WatchStream {
    pub(crate) fn open(
        source: Arc<dyn WatchSource>,
        request: WatchRequest,
        from: Revision,
        published: watch::Receiver<Revision>,
    ) -> Result<Self, WatchError> {
        // Until the watch is live nothing is complete.
        let sent = Arc::new(AtomicU64::new(u64::MAX));
        let cursor = Cursor {
            next: from,
            last_event: Revision::ZERO,
            sent,
        };
        let step = source.step(&request, &cursor)?;
        let position = from.previous();
        let mut stream = Self {
            source,
            request,
            ready: VecDeque::new(),
            cursor,
            position,
            live: None,
            published,
        };
        stream.take(step);
        Ok(stream)
    }

    /// The next batch. After an error the stream is at its end and repeats the error or answers `Closed`.
    ///
    /// Cancel safety: no batch is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<WatchBatch, WatchError> {
        // A reader with a long queue would never wait, and so never let other tasks run.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.deliver(&batch);
                return Ok(batch);
            }
            let Some(live) = &mut self.live else {
                self.replay().await?;
                continue;
            };
            // Read before the queue: what was published before is in the queue.
            let published = *self.published.borrow_and_update();
            match live.queue.try_recv() {
                Ok(batch) => self.ready.push_back(batch),
                Err(mpsc::error::TryRecvError::Disconnected) => self.ended()?,
                Err(mpsc::error::TryRecvError::Empty)
                    if self.request.progress && published > self.position =>
                {
                    self.ready.push_back(WatchBatch {
                        revision: published,
                        events: Vec::new(),
                    });
                }
                Err(mpsc::error::TryRecvError::Empty) => self.wait().await?,
            }
        }
    }

    /// Whether history is replayed: from here on batches come as they are committed.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// As [`WatchStream::next`] for a stream behind a lock that others take batches from with
    /// [`WatchStream::try_next`]. Neither replays history nor tells of progress: only for a live stream.
    pub fn poll_live(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchBatch, WatchError>> {
        if let Some(batch) = self.ready.pop_front() {
            self.deliver(&batch);
            return Poll::Ready(Ok(batch));
        }
        let Some(live) = &mut self.live else {
            return Poll::Ready(Err(WatchError::Lagging));
        };
        let Some(batch) = std::task::ready!(live.queue.poll_recv(context)) else {
            return Poll::Ready(Err(live.reason()));
        };
        self.deliver(&batch);
        Poll::Ready(Ok(batch))
    }

    /// A batch that is there already.
    pub fn try_next(&mut self) -> Option<WatchBatch> {
        let batch = self
            .ready
            .pop_front()
            .or_else(|| self.live.as_mut()?.queue.try_recv().ok())?;
        self.deliver(&batch);
        Some(batch)
    }

    fn deliver(&mut self, batch: &WatchBatch) {
        self.position = batch.revision;
        if !batch.events.is_empty() {
            self.cursor.last_event = batch.revision;
        }
    }

    /// The queue has ended: so has the watch, unless it goes on from history.
    fn ended(&mut self) -> Result<(), WatchError> {
        let reason = self.live.as_ref().map_or(WatchError::Closed, Live::reason);
        if reason != WatchError::Lagging || !self.request.resume {
            return Err(reason);
        }
        self.cursor.next = self.position.next();
        self.live = None;
        Ok(())
    }

    /// Tells, from anywhere, how far this watch is complete. See [`Frontier`].
    pub fn frontier(&self) -> Frontier {
        Frontier {
            sent: Arc::clone(&self.cursor.sent),
            published: self.published.clone(),
        }
    }

    async fn wait(&mut self) -> Result<(), WatchError> {
        let live = self.live.as_mut().expect("only a live watch waits");
        let received = if self.request.progress {
            tokio::select! {
                biased;
                received = live.queue.recv() => received,
                // An error means the store is gone, and then the queue ends too.
                Ok(()) = self.published.changed() => return Ok(()),
            }
        } else {
            live.queue.recv().await
        };
        let Some(batch) = received else {
            return self.ended();
        };
        self.ready.push_back(batch);
        Ok(())
    }

    async fn replay(&mut self) -> Result<(), WatchError> {
        let (source, request, cursor) = (
            Arc::clone(&self.source),
            self.request.clone(),
            self.cursor.clone(),
        );
        let step = run_blocking(move || source.step(&request, &cursor)).await?;
        self.take(step);
        Ok(())
    }

    fn take(&mut self, step: Step) {
        self.ready.extend(step.batches);
        self.cursor.next = step.next;
        self.live = step.live;
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            self.source.unsubscribe(live.id);
        }
    }
}

impl Live {
    fn reason(&self) -> WatchError {
        self.ended.get().cloned().unwrap_or(WatchError::Closed)
    }
}

/// How far a watch is complete — also through a resumption ([`WatchRequest::resume`]), not beyond its end — without waking anybody: for a consistent read from a cache.
#[derive(Debug, Clone)]
pub struct Frontier {
    sent: Arc<AtomicU64>,
    published: watch::Receiver<Revision>,
}

impl Frontier {
    /// A consumer that has applied every batch up to and including revision `applied` is complete up to the answer.
    /// It is above `applied` when only other keys have changed since; it is `applied` when batches are waiting in
    /// the queue (the consumer will get to them without further help).
    pub fn complete_to(&self, applied: Revision) -> Revision {
        // Read before `sent`, which is stored before the revision is published.
        let published = *self.published.borrow();
        if self.sent.load(Ordering::SeqCst) <= applied.get() {
            published.max(applied)
        } else {
            applied
        }
    }
}
