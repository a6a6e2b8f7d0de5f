//! Moves the API horizon: what continue tokens and exact reads can still see.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_engine::{Revision, Store};

/// Every `horizon`, gives up the revisions that were already old at the last time.
pub(crate) async fn keep(store: Arc<dyn Store>, horizon: Duration) {
    let mut before = store.revision();
    loop {
        tokio::time::sleep(horizon).await;
        advance(&*store, &mut before).await;
    }
}

async fn advance(store: &dyn Store, before: &mut Revision) {
    let old = std::mem::replace(before, store.revision());
    if old <= store.compact_revision() {
        return;
    }
    if let Err(error) = store.compact(old).await {
        tracing::warn!(error = %error, revision = old.get(), "moving the API horizon failed");
    }
}
