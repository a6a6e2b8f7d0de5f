//! One compare-and-swap transaction, and the wait until readers see it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloudeck_engine::{KeyValue, Revision, Txn, TxnError};
use cloudeck_machinery::{Object, ObjectKey, Reason, Status, Value, json};

use tokio::time::Instant;

use crate::cache::{feed, splice};
use crate::kinds::Kind;
use crate::server::Core;

/// What must be there for the write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Absent,
    At(u64),
}

/// Why nothing was written.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Something else is there. The caches have it by now.
    Changed,
    Status(Status),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// How long a change that insists on no revision is tried anew when others are faster: upstream, as long as the request
/// lasts. Somebody is always the fastest, so that all get their turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// Until when to try again.
pub(crate) struct Retries(Instant);

impl Retries {
    pub(crate) fn begin() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    /// # Errors
    /// The time is over.
    pub(crate) fn next(&self) -> Result<(), Status> {
        if Instant::now() < self.0 {
            return Ok(());
        }
        let why = "request did not complete within requested timeout - context deadline exceeded";
        Err(Status::new(Reason::Timeout, format!("Timeout: {why}")))
    }
}

/// Whatever way an object came here, it nests no deeper than what may be sent: else a client that reads it, changes it
/// and sends it back is refused, and what is much deeper cannot be read at all.
fn check_depth(tree: &Value) -> Result<(), Status> {
    if tree.is_deeper_than(json::MAX_DEPTH) {
        let why = format!("exceeded max depth of {}", json::MAX_DEPTH);
        return Err(Status::bad_request(format!("the object cannot be stored: {why}")));
    }
    Ok(())
}

/// The bytes that are stored: Go's field order, without a resourceVersion.
pub(crate) fn encode(kind: &Kind, tree: &mut Value) -> Bytes {
    tree.remove_at(&["metadata", "resourceVersion"]);
    let mut bytes = Vec::with_capacity(4096);
    cloudeck_schema::write_json(Some(kind.ty), tree, &mut bytes);
    bytes.into()
}

/// Writes the object, together with what `base` holds, and returns it as readers now see it. Takes the tree.
pub(crate) async fn put(
    core: &Core,
    kind: &Kind,
    key: &ObjectKey,
    tree: &mut Value,
    expect: Expect,
    base: Txn,
) -> Result<Arc<Object>, Refusal> {
    check_depth(tree)?;
    let store_key = Bytes::from(kind.key(&key.namespace, &key.name));
    let value = encode(kind, tree);
    let txn = expecting(base, &store_key, expect).put(store_key.clone(), value.clone());
    let offer = core.pending.offer(&store_key, &value, std::mem::take(tree));
    let revision = run(core, txn).await?;
    drop(offer);
    if let Some(object) = kind.cache.get(&key.namespace, &key.name)
        && object.revision == revision.get()
    {
        return Ok(object);
    }
    // Somebody has written over it already: the answer is still this write.
    let kv = KeyValue {
        key: store_key,
        value,
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: None,
    };
    Ok(Arc::new(feed::build(kind, &kv).map_err(Status::internal)?))
}

/// Deletes the object, together with what `base` holds, and returns the revision of that.
pub(crate) async fn delete(core: &Core, kind: &Kind, object: &Object, base: Txn) -> Result<u64, Refusal> {
    let store_key = Bytes::from(kind.key(&object.key.namespace, &object.key.name));
    let txn = expecting(base, &store_key, Expect::At(object.revision)).delete(store_key);
    run(core, txn).await.map(Revision::get)
}

pub(crate) fn expecting(txn: Txn, key: &Bytes, expect: Expect) -> Txn {
    match expect {
        Expect::Absent => txn.expect_absent(key.clone()),
        Expect::At(revision) => txn.expect_revision(key.clone(), Revision::new(revision).unwrap_or_default()),
    }
}

/// Runs a transaction and waits for the caches.
pub(crate) async fn run(core: &Core, txn: Txn) -> Result<Revision, Refusal> {
    let response = core.store.txn(txn).await.map_err(|error| store_failure(&error))?;
    core.feed.catch_up(response.revision.get());
    // Every key of the store is the API's, so the caches get to any revision.
    core.frontier.reached(response.revision.get()).await;
    if !response.succeeded {
        return Err(Refusal::Changed);
    }
    Ok(response.revision)
}

fn store_failure(error: &TxnError) -> Status {
    match error {
        TxnError::TooLarge { size, limit } => Status::new(
            Reason::RequestEntityTooLarge,
            format!("etcdserver: request is too large ({size} bytes, limit {limit})"),
        ),
        TxnError::NoSpace => Status::new(Reason::ServiceUnavailable, error.to_string()),
        other => Status::internal(other),
    }
}

/// The object as a dry run answers it: nothing was written, the revision stays what it was.
pub(crate) fn pretend(kind: &Kind, tree: &mut Value, revision: u64) -> Result<Arc<Object>, Status> {
    check_depth(tree)?;
    let bytes = encode(kind, tree);
    let fields = (kind.strategy.fields)(tree);
    let json = if revision == 0 {
        bytes
    } else {
        splice::with_revision(&bytes, revision).ok_or_else(|| Status::internal("object without metadata"))?
    };
    let mut object = Object::from_parts(json, tree, fields);
    object.revision = revision;
    Ok(Arc::new(object))
}
