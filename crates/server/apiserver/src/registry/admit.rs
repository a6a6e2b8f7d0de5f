//! Admission, as the engine calls it.

use cloudeck_client::Verb;
use cloudeck_machinery::{Status, Value};

use super::Call;

/// Lets the plug-ins change the object.
pub(crate) fn mutate(
    call: &mut Call<'_>,
    verb: Verb,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let _ = (call, verb, new, old);
    Ok(())
}

/// Lets the plug-ins refuse.
pub(crate) fn validate(
    call: &mut Call<'_>,
    verb: Verb,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let _ = (call, verb, new, old);
    Ok(())
}
