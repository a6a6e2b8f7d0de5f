//! Moves the API horizon along with time, as kube-apiserver does for etcd.

use std::sync::Arc;
use std::time::Duration;

use crate::error::CompactError;
use crate::model::Revision;
use crate::store::Store;

/// How long a read at an old revision and a continue token stay good.
pub const DEFAULT_API_HORIZON: Duration = Duration::from_mins(5);

/// Every `keep`, compacts to the revision of `keep` ago. Ends with an error when the store takes no more writes.
///
/// Several may run over one external store: who comes second finds the work done.
pub async fn keep_api_horizon(store: Arc<dyn Store>, keep: Duration) -> Result<(), CompactError> {
    let mut before = store.revision();
    loop {
        tokio::time::sleep(keep).await;
        let now = store.revision();
        if before > Revision::EMPTY_STORE && before > store.compact_revision() {
            match store.compact(before).await {
                Ok(()) | Err(CompactError::Compacted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_task::Scope;

    use super::*;
    use crate::memory::{MemoryOptions, MemoryStore};
    use crate::model::Txn;

    #[tokio::test(start_paused = true)]
    async fn the_horizon_follows_at_a_distance_and_rests_with_the_store() {
        let scope = Scope::root("compactor");
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(MemoryOptions::default(), &scope));
        let keeper = Arc::clone(&store);
        scope.spawn_until_shutdown("horizon", async move {
            keep_api_horizon(keeper, Duration::from_mins(5)).await.unwrap();
        });
        let minutes = |n| tokio::time::sleep(Duration::from_mins(n));
        minutes(1).await;
        for n in 0..3 {
            store.txn(Txn::new().put("a", n.to_string())).await.unwrap();
        }
        let compacted = || store.compact_revision().get();
        minutes(5).await;
        assert_eq!(
            compacted(),
            0,
            "what was current five minutes ago can still be read"
        );
        minutes(5).await;
        assert_eq!(compacted(), 4);
        minutes(60).await;
        assert_eq!((compacted(), store.revision().get()), (4, 4));
        scope.request_shutdown();
    }
}
