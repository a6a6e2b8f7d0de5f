//! Admission, as the engine calls it.

use std::time::Duration;

use cloudeck_admission::{AdmissionRequest, Awaited, Charge, Context, Operation, Refusal};
use cloudeck_machinery::{MicroTime, Status, Value};

use super::Call;
use crate::server::Core;

/// How long a write waits for an object that a controller is about to make: the service account of a new namespace.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lets the plug-ins change the object.
pub(crate) async fn mutate(
    call: &mut Call<'_>,
    operation: Operation,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(refusal) = try_mutate(call, operation, new, old) else {
        return Ok(());
    };
    let Some(awaited) = &refusal.awaits else {
        return Err(refusal.into());
    };
    if !appears(call.core, awaited).await {
        return Err(refusal.into());
    }
    try_mutate(call, operation, new, old).map_or(Ok(()), |refusal| Err(refusal.into()))
}

fn try_mutate(
    call: &Call<'_>,
    operation: Operation,
    new: &mut Value,
    old: Option<&Value>,
) -> Option<Refusal> {
    with_context(call, |context| {
        let name = new.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
        let mut request = request(call, operation, &name, std::mem::take(new), old);
        let outcome = cloudeck_admission::admit(&mut request, context);
        *new = request.object;
        outcome.err()
    })
}

/// Lets the plug-ins refuse; `new` is as before afterwards.
pub(crate) fn validate(
    call: &mut Call<'_>,
    operation: Operation,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let outcome = with_context(call, |context| {
        let name = new
            .str_at(&["metadata", "name"])
            .unwrap_or(&call.request.name)
            .to_owned();
        let request = request(call, operation, &name, std::mem::take(new), old);
        let outcome = cloudeck_admission::validate(&request, context);
        *new = request.object;
        outcome
    });
    for warning in outcome?.warnings {
        call.warn(warning);
    }
    Ok(())
}

/// What the write costs the quotas of its namespace; `new` is as before afterwards.
pub(crate) fn charge(
    call: &Call<'_>,
    operation: Operation,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<Charge>, Status> {
    let charges = with_context(call, |context| {
        let name = new.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
        let request = request(call, operation, &name, std::mem::take(new), old);
        let now = MicroTime::from_unix_micros(call.core.clock.now().as_microsecond());
        let charges = cloudeck_admission::charge(&request, context, now);
        *new = request.object;
        charges
    });
    Ok(charges?)
}

fn with_context<T>(call: &Call<'_>, ask: impl FnOnce(&Context<'_>) -> T) -> T {
    let core = call.core;
    ask(&Context {
        reader: &**core,
        authorizer: &*core.authorizer,
        random_suffix: &|| core.ids.name_from(""),
    })
}

fn request<'a>(
    call: &'a Call<'_>,
    operation: Operation,
    name: &'a str,
    object: Value,
    old: Option<&'a Value>,
) -> AdmissionRequest<'a> {
    let (info, request) = (call.view.info, call.request);
    let name = if request.name.is_empty() {
        name
    } else {
        &request.name
    };
    let itself = call.kind().is("", "namespaces");
    AdmissionRequest {
        operation,
        group: info.group,
        version: info.version,
        resource: info.plural,
        subresource: &request.subresource,
        namespace: if itself { name } else { &request.namespace },
        name,
        user: call.user,
        object,
        old,
    }
}

/// Waits a moment for an object of the core group.
async fn appears(core: &Core, awaited: &Awaited) -> bool {
    let kind = core.stored("", awaited.resource);
    let mut changed = kind.cache.subscribe();
    let wait = async {
        while kind.cache.get(&awaited.namespace, &awaited.name).is_none() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.is_ok()
}
