//! What the server hands out: service addresses and node ports.

use cloudeck_engine::Txn;
use cloudeck_machinery::{Status, Value};

use crate::kinds::Kind;
use crate::registry::Call;
use crate::server::Core;

/// Chooses what the object lacks and answers what the transaction must hold besides it.
pub(crate) fn claim(call: &Call<'_>, new: &mut Value, old: Option<&Value>) -> Result<Txn, Status> {
    let _ = (call, new, old);
    Ok(Txn::new())
}

/// What the transaction that deletes the object must hold besides.
pub(crate) fn release(core: &Core, kind: &Kind, old: &Value) -> Txn {
    let _ = (core, kind, old);
    Txn::new()
}
