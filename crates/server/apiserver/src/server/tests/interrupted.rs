//! A memory store on which something else happens before a write, as on a disk that takes its time.

use std::time::Duration;

use cloudeck_engine::{
    BoxFuture, CompactError, LeaseError, LeaseId, RangeError, RangeRequest, RangeResponse, Revision, Store,
    StoreStatus, Txn, TxnError, TxnResponse, WatchError, WatchRequest, WatchStream,
};

use super::*;

/// What is to be done before a transaction.
pub(super) type Before = Box<dyn Fn(&Txn) -> BoxFuture<'static, ()> + Send + Sync>;

struct Interrupted {
    store: MemoryStore,
    before: Before,
}

/// A server on such a store.
pub(super) async fn server_interrupted(before: Before) -> Server {
    let scope = Scope::root("test");
    let store = MemoryStore::new(MemoryOptions::default(), &scope);
    let key = Arc::new(TokenKey::generate().unwrap());
    let config = Config::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 6443, key);
    Server::start(config, Arc::new(Interrupted { store, before }), &scope)
        .await
        .unwrap()
}

impl Store for Interrupted {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, RangeError>> {
        self.store.range(request)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, TxnError>> {
        let interruption = (self.before)(&txn);
        Box::pin(async move {
            interruption.await;
            self.store.txn(txn).await
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, WatchError>> {
        self.store.watch(request)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), CompactError>> {
        self.store.compact(revision)
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
        self.store.lease_grant(id, ttl)
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Duration, LeaseError>> {
        self.store.lease_keep_alive(id)
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        self.store.lease_revoke(id)
    }

    fn failed(&self) -> BoxFuture<'_, String> {
        self.store.failed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
