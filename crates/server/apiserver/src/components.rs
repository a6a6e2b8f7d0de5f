//! ComponentStatuses: how the parts of the control plane are, asked when somebody reads. Nothing of it is stored.
//!
//! Source: `pkg/registry/core/componentstatus`. Upstream asks over HTTP; here the parts run in the same process, and
//! whoever puts them together says how each is asked ([`crate::Server::tell_of`]).

use std::sync::{Arc, PoisonError, RwLock};

use cloudeck_client::{ListMeta, ObjectList, Response, Verb};
use cloudeck_machinery::{Object, Status, Value, value};

use crate::registry::{Call, list};

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The parts that are known, by name.
#[derive(Default)]
pub(crate) struct Components(RwLock<Vec<(&'static str, Check)>>);

impl Components {
    pub(crate) fn add(&self, name: &'static str, check: Check) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(known, _)| *known != name);
        all.push((name, check));
        all.sort_by_key(|(name, _)| *name);
    }

    fn statuses(&self, call: &Call<'_>) -> Vec<Arc<Object>> {
        // Asked outside of the lock: a check is somebody else's code.
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let statuses = all.iter().map(|(name, check)| status(name, check()));
        statuses.map(|tree| Arc::new(object(call, tree))).collect()
    }
}

/// Answers a read; there are no other verbs.
pub(crate) fn answer(call: &Call<'_>) -> Result<Response, Status> {
    let mut statuses = call.core.components.statuses(call);
    if call.request.verb == Verb::Get {
        let name = call.request.name.as_str();
        let found = statuses.into_iter().find(|status| status.key.name == name);
        // Upstream's refusal names the singular.
        let object = found.ok_or_else(|| Status::not_found("", "componentstatus", name))?;
        return Ok(Response::Object {
            object,
            created: false,
        });
    }
    let selection = list::selection(call)?;
    statuses.retain(|status| selection.matches(status));
    let meta = ListMeta {
        revision: call.core.frontier.revision(),
        ..ListMeta::default()
    };
    Ok(Response::List(ObjectList {
        items: statuses,
        meta,
    }))
}

fn status(name: &str, health: Result<(), String>) -> Value {
    let condition = match health {
        Ok(()) => value!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => value!({"type": "Healthy", "status": "False", "error": (why)}),
    };
    value!({
        "kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": {"name": (name)}, "conditions": [(condition)]
    })
}

fn object(call: &Call<'_>, tree: Value) -> Object {
    let mut bytes = Vec::with_capacity(256);
    cloudeck_schema::write_json(Some(call.view.ty), &tree, &mut bytes);
    Object::from_parts(bytes.into(), &tree, Box::default())
}
