//! POST: a new object.

use std::sync::Arc;

use cloudeck_admission::Operation;
use cloudeck_client::Response;
use cloudeck_machinery::{Cause, Object, ObjectKey, Reason, Status, Value};
use cloudeck_strategy::strict_event;

use super::commit::{self, Expect, Refusal};
use super::{Call, admit, certificates, decode, meta, metadata_rules, ownership, quota};
use crate::alloc;
use crate::conversion::Conversion;

/// How often another name, address or port is drawn when the one drawn is taken.
const ATTEMPTS: usize = 8;

pub(crate) async fn create(call: &mut Call<'_>) -> Result<Response, Status> {
    let tree = decode::object(call)?;
    let object = create_tree(call, tree, false).await?;
    Ok(call.answer(&object, true))
}

/// Creates `tree`, which is in the view's form, normalised. What was `applied` has its managedFields already.
pub(crate) async fn create_tree(
    call: &mut Call<'_>,
    tree: Value,
    applied: bool,
) -> Result<Arc<Object>, Status> {
    let generated = tree.str_at(&["metadata", "name"]).unwrap_or_default().is_empty();
    if !generated && !alloc::chooses(call.kind()) {
        return attempt(call, tree, applied).await;
    }
    let mut last = Status::internal("no attempt was made");
    for _ in 0..ATTEMPTS {
        match attempt(call, tree.clone(), applied).await {
            Err(status) if is_bad_luck(&status, generated, call) => last = status,
            other => return other,
        }
    }
    Err(last)
}

async fn attempt(call: &mut Call<'_>, mut tree: Value, applied: bool) -> Result<Arc<Object>, Status> {
    let kind = Arc::clone(call.kind());
    let view = Arc::clone(call.view);
    cloudeck_schema::apply_defaults(view.ty, &mut tree);
    view.conversion.store(&view, &mut tree);
    (kind.strategy.default)(&mut tree);
    meta::prepare_create(call, &mut tree)?;
    meta::dedup_owners(call, &mut tree);
    // A node comes with its status: the agent registers itself in one request.
    if kind.info.has_status && !kind.is("", "nodes") {
        tree.remove_at(&["status"]);
    }
    normalise(&kind, &mut tree)?;
    if !applied {
        ownership::track(call, None, &mut tree);
    }
    // What the server itself sets from here on belongs to nobody.
    (kind.strategy.prepare_create)(&mut tree);
    certificates::requested(call, &mut tree);
    admit::mutate(call, Operation::Create, &mut tree, None).await?;
    meta::dedup_owners(call, &mut tree);
    let name = tree.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    let base = alloc::claim(call, &mut tree, None)?;
    normalise(&kind, &mut tree)?;
    let mut causes = metadata_rules::check_create(&kind, &tree);
    causes.extend((kind.strategy.validate_create)(&tree));
    causes.extend(certificates::check_create(&kind, &tree));
    if view.conversion == Conversion::Event {
        causes.extend(strict_event::create(&tree));
    }
    add_declared(
        &mut causes,
        cloudeck_schema::declarative_errors(kind.ty, &tree, None),
    );
    if !causes.is_empty() {
        return Err(Status::invalid(kind.group(), kind.info.kind, &name, causes));
    }
    for warning in (kind.strategy.warnings)(&tree, None) {
        call.warn(warning);
    }
    super::grants::check(call, &tree, None)?;
    admit::validate(call, Operation::Create, &mut tree, None)?;
    let key = ObjectKey::new(&call.request.namespace, &name);
    if call.is_dry_run() {
        quota::check(call, Operation::Create, &mut tree, None)?;
        return match kind.cache.get(&key.namespace, &key.name) {
            Some(_) => Err(Status::already_exists(kind.group(), kind.plural(), &name)),
            None => commit::pretend(&kind, &mut tree, 0),
        };
    }
    let result = quota::put(call, &kind, &key, &mut tree, None, Expect::Absent, base).await;
    result.map_err(|refusal| match refusal {
        Refusal::Changed if alloc::chooses(&kind) && kind.cache.get(&key.namespace, &key.name).is_none() => {
            Status::conflict(
                view.group(),
                view.plural(),
                &name,
                "an allocation was taken by another write",
            )
        }
        Refusal::Changed => Status::already_exists(view.group(), view.plural(), &name),
        Refusal::Status(status) => status,
    })
}

/// Adds the errors that follow from the schema's rules, where nothing written by hand has said something of the field.
pub(super) fn add_declared(causes: &mut Vec<Cause>, declared: Vec<Cause>) {
    for cause in declared {
        if !causes.iter().any(|known| known.field == cause.field) {
            causes.push(cause);
        }
    }
}

/// Whether drawing anew may help.
fn is_bad_luck(status: &Status, generated: bool, call: &Call<'_>) -> bool {
    match status.reason {
        Reason::AlreadyExists => generated,
        Reason::Conflict => alloc::chooses(call.kind()),
        _ => false,
    }
}

/// Brings what the strategies and plug-ins wrote into Go's form.
pub(crate) fn normalise(kind: &crate::kinds::Kind, tree: &mut Value) -> Result<(), Status> {
    cloudeck_schema::normalise(kind.ty, tree).map_err(|errors| {
        let why = errors.first().map(ToString::to_string).unwrap_or_default();
        Status::internal(format!("a default does not fit the schema: {why}"))
    })
}
