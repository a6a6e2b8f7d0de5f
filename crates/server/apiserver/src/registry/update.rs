//! PUT and the loop under every change of an existing object.

use std::sync::Arc;

use cloudeck_admission::Operation;
use cloudeck_client::{Response, Verb};
use cloudeck_machinery::{Object, ObjectKey, Reason, Status, Value};
use cloudeck_patch::apply::keep_times_of_no_change;
use cloudeck_strategy::strict_event;

use super::commit::{self, Expect, Refusal, Retries};
use super::{
    Call, admit, certificates, create, decode, delete, facts, grants, meta, metadata_rules, ownership, quota,
    subobject,
};
use crate::alloc;
use crate::conversion::Conversion;
use crate::kinds::Kind;

/// Makes the new form of an object, in the view's version, out of the present one.
pub(crate) trait Change: Send + Sync {
    /// `current` is in the view's form with its resourceVersion.
    fn apply(&self, call: &mut Call<'_>, current: &Value) -> Result<Value, Status>;

    /// The object to create when there is none; a refusal if that is not what is wanted.
    fn create(&self, call: &mut Call<'_>) -> Result<Value, Status> {
        Err(call.not_found())
    }

    /// Whether it records its own managedFields.
    fn is_apply(&self) -> bool {
        false
    }
}

struct Replace(Value);

impl Change for Replace {
    fn apply(&self, _: &mut Call<'_>, _: &Value) -> Result<Value, Status> {
        Ok(self.0.clone())
    }

    fn create(&self, call: &mut Call<'_>) -> Result<Value, Status> {
        if facts::may_create_on_update(call.kind()) && call.request.subresource.is_empty() {
            Ok(self.0.clone())
        } else {
            Err(call.not_found())
        }
    }
}

pub(crate) async fn update(call: &mut Call<'_>) -> Result<Response, Status> {
    let mut tree = decode::object(call)?;
    match_name(call, &mut tree)?;
    meta::match_namespace(call, &mut tree)?;
    run(call, &Replace(tree)).await
}

/// The name in the body, if any, is the path's.
pub(crate) fn match_name(call: &Call<'_>, tree: &mut Value) -> Result<(), Status> {
    let wanted = call.request.name.as_str();
    let own = tree.str_at(&["metadata", "name"]).unwrap_or_default();
    if own.is_empty() {
        tree.set_at(&["metadata", "name"], wanted);
    } else if own != wanted {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({wanted})"
        )));
    }
    Ok(())
}

/// Applies `change` until it holds.
pub(crate) async fn run(call: &mut Call<'_>, change: &dyn Change) -> Result<Response, Status> {
    let retries = Retries::begin();
    loop {
        let name = &call.request.name;
        let Some(current) = call.kind().cache.get(&call.request.namespace, name) else {
            let tree = change.create(call)?;
            match create::create_tree(call, tree, change.is_apply()).await {
                Ok(object) => return Ok(call.answer(&object, true)),
                // Somebody else was faster: now it is there to be changed.
                Err(status) if status.reason == Reason::AlreadyExists => retries.next()?,
                Err(status) => return Err(status),
            }
            continue;
        };
        match attempt(call, change, &current).await {
            Ok(object) => return Ok(call.answer(&object, false)),
            Err(Refusal::Status(status)) => return Err(status),
            Err(Refusal::Changed) => retries.next()?,
        }
    }
}

async fn attempt(
    call: &mut Call<'_>,
    change: &dyn Change,
    current: &Arc<Object>,
) -> Result<Arc<Object>, Refusal> {
    let kind = Arc::clone(call.kind());
    let old = current.tree();
    let view = Arc::clone(call.view);
    let mut new = if view.conversion == Conversion::Identity {
        change.apply(call, &old)?
    } else {
        change.apply(call, &view.tree(current))?
    };
    check_versions(call, &new, current)?;
    prepare(call, &kind, &mut new, &old, change.is_apply())?;
    if changes_nothing(&mut new, &old) {
        return Ok(Arc::clone(current));
    }
    let base = check(call, &kind, &mut new, &old).await?;
    if changes_nothing(&mut new, &old) {
        return Ok(Arc::clone(current));
    }
    if call.is_dry_run() {
        quota::check(call, Operation::Update, &mut new, Some(&old))?;
        return Ok(commit::pretend(&kind, &mut new, current.revision)?);
    }
    if delete::is_finished(&kind, &new) {
        return finish_deletion(call, &kind, current, &mut new).await;
    }
    let expect = Expect::At(current.revision);
    quota::put(call, &kind, &current.key, &mut new, Some(&old), expect, base).await
}

/// Whether the two are the same, the times in managedFields aside. (Defaults and plug-ins may have undone a change.)
fn changes_nothing(new: &mut Value, old: &Value) -> bool {
    if new != old {
        keep_times_of_no_change(old, new);
    }
    new == old
}

/// The last finalizer is gone: the object goes, too.
async fn finish_deletion(
    call: &Call<'_>,
    kind: &Kind,
    current: &Arc<Object>,
    new: &mut Value,
) -> Result<Arc<Object>, Refusal> {
    let base = alloc::release(call.core, kind, &current.tree());
    let revision = commit::delete(call.core, kind, current, base).await?;
    Ok(commit::pretend(kind, new, revision)?)
}

fn check_versions(call: &Call<'_>, new: &Value, current: &Object) -> Result<(), Status> {
    let (view, name) = (call.view, call.request.name.as_str());
    let wanted = new.str_at(&["metadata", "resourceVersion"]).unwrap_or_default();
    if wanted.is_empty() || wanted == "0" {
        if call.request.verb == Verb::Update && facts::needs_revision_on_update(&view.kind) {
            return Err(metadata_rules::revision_required(view, name));
        }
    } else if wanted != current.revision.to_string() {
        return Err(Status::modified(view.group(), view.plural(), name));
    }
    let uid = new.str_at(&["metadata", "uid"]).unwrap_or_default();
    if !uid.is_empty() && uid != current.uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            current.uid
        );
        return Err(Status::conflict(view.group(), view.plural(), name, &why));
    }
    Ok(())
}

/// From what the client sent to what may be stored: defaults, the parts that the request may not touch, managedFields.
fn prepare(
    call: &mut Call<'_>,
    kind: &Kind,
    new: &mut Value,
    old: &Value,
    applied: bool,
) -> Result<(), Status> {
    let view = Arc::clone(call.view);
    cloudeck_schema::apply_defaults(view.ty, new);
    view.conversion.store(&view, new);
    (kind.strategy.default)(new);
    match old.at(&["metadata", "resourceVersion"]) {
        Some(version) => new.set_at(&["metadata", "resourceVersion"], version.clone()),
        None => false,
    };
    meta::dedup_owners(call, new);
    meta::carry_over(new, old);
    subobject::keep_others(kind, &call.request.subresource, new, old);
    certificates::prepare_update(call, new, old);
    if call.request.subresource.is_empty() {
        (kind.strategy.prepare_update)(new, old);
    }
    create::normalise(kind, new)?;
    if !applied {
        ownership::track(call, Some(old), new);
    }
    Ok(())
}

/// Admission and validation; answers what the transaction must hold besides the object.
async fn check(
    call: &mut Call<'_>,
    kind: &Kind,
    new: &mut Value,
    old: &Value,
) -> Result<cloudeck_engine::Txn, Status> {
    admit::mutate(call, Operation::Update, new, Some(old)).await?;
    let status_only = call.request.subresource == "status";
    let base = if status_only {
        cloudeck_engine::Txn::new()
    } else {
        alloc::claim(call, new, Some(old))?
    };
    if alloc::chooses(kind) || kind.is("", "pods") && !status_only {
        create::normalise(kind, new)?;
    }
    let main = matches!(call.request.subresource.as_str(), "" | "scale");
    if main && facts::has_generation(kind) {
        meta::raise_generation(new, old);
    }
    let mut causes = metadata_rules::check_update(kind, new, old);
    causes.extend(certificates::check_update(call, new, old));
    match call.request.subresource.as_str() {
        "status" | "approval" => causes.extend((kind.strategy.validate_status_update)(new, old)),
        // What they may change is checked where they are answered.
        "binding" | "finalize" => {}
        _ => {
            causes.extend((kind.strategy.validate_update)(new, old));
            if call.view.conversion == Conversion::Event {
                causes.extend(strict_event::update(new, old));
            }
            let declared = cloudeck_schema::declarative_errors(kind.ty, new, Some(old));
            create::add_declared(&mut causes, declared);
        }
    }
    if !causes.is_empty() {
        return Err(Status::invalid(
            kind.group(),
            kind.info.kind,
            &call.request.name,
            causes,
        ));
    }
    if !status_only {
        for warning in (kind.strategy.warnings)(new, Some(old)) {
            call.warn(warning);
        }
    }
    grants::check(call, new, Some(old))?;
    admit::validate(call, Operation::Update, new, Some(old))?;
    Ok(base)
}

/// Changes an object by a function, for the server's own purposes: no admission, no managedFields. The function is given
/// the newest form there is, with its resourceVersion, as often as others are faster.
pub(crate) async fn edit(
    core: &crate::server::Core,
    kind: &Kind,
    key: &ObjectKey,
    change: impl Fn(&mut Value) -> Result<(), Status>,
) -> Result<Arc<Object>, Status> {
    let retries = Retries::begin();
    loop {
        let Some(current) = kind.cache.get(&key.namespace, &key.name) else {
            return Err(Status::not_found(kind.group(), kind.plural(), &key.name));
        };
        let old = current.tree();
        let mut new = old.clone();
        change(&mut new)?;
        if new == old {
            return Ok(current);
        }
        let base = cloudeck_engine::Txn::new();
        match commit::put(core, kind, key, &mut new, Expect::At(current.revision), base).await {
            Ok(object) => return Ok(object),
            Err(Refusal::Status(status)) => return Err(status),
            Err(Refusal::Changed) => retries.next()?,
        }
    }
}
