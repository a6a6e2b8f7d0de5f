//! The datastore under the cluster: the product's engine, with a book kept of what it acknowledges.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use bytes::Bytes;
use cloudeck_engine::{
    BoxFuture, CompactError, LeaseError, LeaseId, Op, RangeError, RangeRequest, RangeResponse, Revision,
    Store, StoreStatus, Txn, TxnError, TxnResponse, WatchError, WatchRequest, WatchStream,
};

use crate::book::Book;

pub(crate) const ROOT: &[u8] = b"/registry/";

/// See the module.
pub(crate) struct Recorded {
    store: Arc<dyn Store>,
    book: Book,
    /// Whether the engine has threads. Then each request is waited for in place, so that only one thread runs at a time
    /// and the order of things is the same every time.
    threaded: bool,
    /// Transactions that failed without an answer: they may have happened.
    in_doubt: Mutex<Vec<Txn>>,
}

impl Recorded {
    pub(crate) fn new(store: Arc<dyn Store>, book: &Book, threaded: bool) -> Self {
        Self {
            store,
            book: book.clone(),
            threaded,
            in_doubt: Mutex::default(),
        }
    }

    /// What may or may not have happened.
    pub(crate) fn in_doubt(&self) -> Vec<Txn> {
        self.in_doubt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn answer<T>(&self, future: impl Future<Output = T>) -> T {
        if self.threaded {
            wait_in_place(future)
        } else {
            future.await
        }
    }

    async fn commit(&self, txn: Txn) -> Result<TxnResponse, TxnError> {
        let outcome = self.answer(self.store.txn(txn.clone())).await;
        match &outcome {
            Ok(response) if response.succeeded && response.revision.get() > self.book.revision() => {
                self.book.record(response.revision.get(), changes(&txn));
            }
            Err(TxnError::OutcomeUnknown { .. }) => {
                let in_doubt = self.in_doubt.lock();
                in_doubt.unwrap_or_else(PoisonError::into_inner).push(txn);
                // Everybody who waits for the failure hears of it before anything else happens.
                self.answer(self.store.failed()).await;
            }
            _ => {}
        }
        outcome
    }
}

/// What the transaction does, in the book's words.
pub(crate) fn changes(txn: &Txn) -> Vec<(Arc<str>, Option<Bytes>)> {
    let change = |op: &Op| match op {
        Op::Put { key, value, .. } => (short(key), Some(value.clone())),
        Op::Delete { key } => (short(key), None),
    };
    txn.ops.iter().map(change).collect()
}

/// The key without its root.
pub(crate) fn short(key: &[u8]) -> Arc<str> {
    let rest = key.strip_prefix(ROOT).unwrap_or(key);
    String::from_utf8_lossy(rest).into()
}

impl Store for Recorded {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, RangeError>> {
        Box::pin(self.answer(self.store.range(request)))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, TxnError>> {
        Box::pin(self.commit(txn))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, WatchError>> {
        Box::pin(self.answer(self.store.watch(request)))
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), CompactError>> {
        Box::pin(self.answer(self.store.compact(revision)))
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }

    fn compact_revision(&self) -> Revision {
        self.store.compact_revision()
    }

    fn status(&self) -> StoreStatus {
        self.store.status()
    }

    fn lease_grant(&self, id: Option<LeaseId>, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, LeaseError>> {
        Box::pin(self.answer(self.store.lease_grant(id, ttl)))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Duration, LeaseError>> {
        Box::pin(self.answer(self.store.lease_keep_alive(id)))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        Box::pin(self.answer(self.store.lease_revoke(id)))
    }

    fn failed(&self) -> BoxFuture<'_, String> {
        self.store.failed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.answer(self.store.close()))
    }
}

/// Lets this thread sleep until the future, which others bring about, is ready.
fn wait_in_place<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    // Within a task's budget tokio's futures would make this loop spin once it is used up.
    let mut future = pin!(tokio::task::coop::unconstrained(future));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
