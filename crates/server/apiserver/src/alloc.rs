//! What the server hands out: service addresses, node ports, pod ranges.
//!
//! An allocation is a key that is created in the very transaction that stores its owner, under the condition that it
//! does not exist: nothing can leak or be given twice, whatever dies when. Which values are free is read from the
//! caches; losing a race costs one more attempt. Service addresses are IPAddress objects; ports and pod ranges are
//! plain keys below `/registry/ranges/`.

mod address;
mod node_range;
mod repair;
mod service;

use bytes::Bytes;
use cloudeck_engine::Txn;
use cloudeck_machinery::{Status, Value};

use crate::kinds::Kind;
use crate::registry::Call;
use crate::server::Core;

pub(crate) use repair::keep_addresses;

/// Chooses what the object lacks and answers what the transaction must hold besides it.
pub(crate) fn claim(call: &Call<'_>, new: &mut Value, old: Option<&Value>) -> Result<Txn, Status> {
    let kind = call.kind();
    if !kind.group().is_empty() {
        return Ok(Txn::new());
    }
    match kind.plural() {
        "services" => service::claim(call, new, old),
        "nodes" => Ok(node_range::claim(call.core, new, old)),
        _ => Ok(Txn::new()),
    }
}

/// What the transaction that deletes the object must hold besides.
pub(crate) fn release(core: &Core, kind: &Kind, old: &Value) -> Txn {
    if !kind.group().is_empty() {
        return Txn::new();
    }
    match kind.plural() {
        "services" => service::release(core, old),
        "nodes" => node_range::release(old),
        _ => Txn::new(),
    }
}

/// Whether losing a race may be cured by choosing anew.
pub(crate) fn chooses(kind: &Kind) -> bool {
    kind.is("", "services") || kind.is("", "nodes")
}

/// The key that stands for a port or range that is taken.
fn range_key(of: &str, value: &str) -> Bytes {
    format!("/registry/ranges/{of}/{value}").into()
}
