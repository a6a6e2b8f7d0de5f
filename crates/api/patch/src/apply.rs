//! Server-side apply, and the tracking of every other write.
//!
//! Every write goes through one of two doors: [`apply_patch`] merges an applied configuration into the live object and
//! refuses what others own; [`track_update`] records what any other write changed. Both leave
//! `metadata.managedFields` behind. Entries of other versions of a kind are compared by the request's version: the
//! conversions between served versions keep field names.
//!
//! Sources: `apimachinery/pkg/util/managedfields`, `structured-merge-diff/merge`.

mod conflict;
mod update;

pub use update::{UpdateInput, keep_times_of_no_change, track_update};

use cloudeck_machinery::{GroupVersionKind, Key, Reason, Status, Value};
use cloudeck_schema::TypeRef;

use crate::fieldset::FieldSet;
use crate::managed::{self, Entry};
use crate::typed::{self, Type};

/// The longest name of a manager.
pub const MAX_MANAGER_BYTES: usize = 128;

/// An apply request. Trees are normalised; the patch is as the client sent it.
#[derive(Debug, Clone, Copy)]
pub struct ApplyInput<'a> {
    /// The stored object in the request's version; `None` creates.
    pub live: Option<&'a Value>,
    pub patch: &'a Value,
    /// What the request's path names.
    pub kind: &'a GroupVersionKind,
    /// The root type; `None` for kinds without a schema.
    pub ty: Option<TypeRef>,
    pub manager: &'a str,
    pub force: bool,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// Fields that this resource does not write: never owned, never in conflict.
    pub reset_fields: &'a [&'a [&'a str]],
    /// RFC 3339, in seconds and UTC.
    pub now: &'a str,
}

/// The name under which a write is recorded: the request's `fieldManager`, else the user agent up to the first slash.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let agent = user_agent.split('/').next().unwrap_or_default();
    let mut name = String::new();
    for c in agent.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > MAX_MANAGER_BYTES {
            break;
        }
        name.push(c);
    }
    name
}

/// Merges an applied configuration into the live object and takes ownership of its fields. Fields that the same manager
/// applied before and no longer does are removed, unless others own them.
///
/// The result may be equal to the live object; it is neither defaulted nor normalised.
///
/// # Errors
/// 400 for a wrong kind or `managedFields` in the patch, 409 for fields that others own, 500 for what does not fit the
/// schema (as upstream).
pub fn apply_patch(input: ApplyInput<'_>) -> Result<Value, Status> {
    check_patch(&input)?;
    let entries = managed::decode(
        input
            .live
            .and_then(|live| live.at(&["metadata", "managedFields"])),
        false,
    )
    .map_err(|why| internal(format!("failed to decode managed fields: {why}")))?;
    let ty = Type::of(input.ty);
    let mut live = match input.live {
        Some(live) => live.clone(),
        None => empty_object(input.ty, input.kind),
    };
    live.remove_at(&["metadata", "managedFields"]);
    let mut application = Application {
        input: &input,
        ty,
        live,
        entries,
    };
    application.own_unmanaged();
    let mut result = match application.run(input.force) {
        Err(conflicts) => application.retry_as_kubectl(conflicts)?,
        Ok(result) => result,
    };
    if input.manager == LAST_APPLIED_MANAGER {
        renew_last_applied(&mut result.object, input.patch);
    }
    managed::encode(result.entries, &mut result.object);
    Ok(result.object)
}

fn check_patch(input: &ApplyInput<'_>) -> Result<(), Status> {
    let patch = input.patch;
    let text = |path: &[&str]| patch.str_at(path).unwrap_or_default();
    let (api_version, kind) = (text(&["apiVersion"]), text(&["kind"]));
    if api_version != input.kind.api_version() || kind != input.kind.kind {
        let (group, version) = cloudeck_machinery::object::split_api_version(api_version);
        return Err(Status::bad_request(format!(
            "invalid object type: {group}/{version}, Kind={kind}"
        )));
    }
    if patch
        .at(&["metadata", "managedFields"])
        .is_some_and(|entries| !entries.is_null())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    typed::validate(Type::of(input.ty), patch).map_err(|why| {
        let or_unknown = |text: &str| if text.is_empty() { "" } else { text }.to_owned();
        let (namespace, name) = (
            or_unknown(text(&["metadata", "namespace"])),
            or_unknown(text(&["metadata", "name"])),
        );
        let kind = format!("{}, Kind={}", input.kind.api_version(), input.kind.kind);
        let kind = if input.kind.group.is_empty() {
            format!("/{kind}")
        } else {
            kind
        };
        internal(format!(
            "failed to create typed patch object ({namespace}/{name}; {kind}): {why}"
        ))
    })
}

/// Upstream answers such errors as they are: code 500, no reason.
fn internal(message: String) -> Status {
    Status::new(Reason::Unknown, message)
}

/// What a creation is compared with.
fn empty_object(ty: Option<TypeRef>, kind: &GroupVersionKind) -> Value {
    let mut empty = ty.map_or_else(Value::object, typed::zero_object);
    empty.set_at(&["apiVersion"], kind.api_version());
    empty.set_at(&["kind"], kind.kind.as_str());
    empty
}

struct Application<'a> {
    input: &'a ApplyInput<'a>,
    ty: Type,
    /// Without managedFields.
    live: Value,
    entries: Vec<Entry>,
}

struct Applied {
    object: Value,
    entries: Vec<Entry>,
}

/// Fields in conflict, by owner.
type Conflicts = Vec<(Entry, FieldSet)>;

impl Application<'_> {
    fn entry(&self, manager: &str, applied: bool, fields: FieldSet) -> Entry {
        Entry {
            manager: Key::from(manager),
            applied,
            api_version: self.input.kind.api_version().into(),
            subresource: self.input.subresource.into(),
            time: None,
            fields,
        }
    }

    /// What an object without any record holds belongs to a manager of its own.
    fn own_unmanaged(&mut self) {
        if !self.entries.is_empty() || self.input.live.is_none() {
            return;
        }
        let empty = empty_object(self.input.ty, self.input.kind);
        let mut changes = typed::compare(self.ty, &empty, &self.live);
        changes.exclude(&FieldSet::of_paths(self.input.reset_fields));
        let (mut fields, _) = changes.into_set_and_touched();
        update::strip(&mut fields);
        if !fields.is_empty() {
            let mut entry = self.entry("before-first-apply", false, fields);
            entry.time = Some(self.input.now.into());
            self.entries.push(entry);
        }
    }

    fn run(&self, force: bool) -> Result<Applied, Conflicts> {
        let merged = typed::merge(self.ty, &self.live, self.input.patch);
        let mut own = typed::field_set(self.ty, self.input.patch);
        let reset = FieldSet::of_paths(self.input.reset_fields);
        own.subtract_below(&reset);
        let mut entries = self.entries.clone();
        let own = self.entry(self.manager(), true, own);
        let at = entries.iter().position(|entry| entry.is_same_manager(&own));
        let (at, last) = if let Some(at) = at {
            let time = entries[at].time.clone();
            let last = std::mem::replace(&mut entries[at], Entry { time, ..own });
            (at, Some(last.fields))
        } else {
            entries.push(own);
            (entries.len() - 1, None)
        };
        let object = match last.filter(|last| !last.is_empty()) {
            Some(last) => self.prune(merged, &entries, &last),
            None => merged,
        };
        let mut changes = typed::compare(self.ty, &self.live, &object);
        changes.exclude(&reset);
        let (set, touched) = changes.into_set_and_touched();
        if !force {
            check_conflicts(&entries, at, &set)?;
        }
        for (i, entry) in entries.iter_mut().enumerate() {
            if i != at {
                entry.fields.subtract(&touched);
            }
        }
        update::strip(&mut entries[at].fields);
        let object = if typed::same(&self.live, &object) {
            self.live.clone()
        } else {
            entries[at].time = Some(self.input.now.into());
            object
        };
        entries.retain(|entry| !entry.fields.is_empty());
        Ok(Applied { object, entries })
    }

    fn manager(&self) -> &str {
        if self.input.manager.is_empty() {
            "unknown"
        } else {
            self.input.manager
        }
    }

    /// Removes what this manager applied last time, not this time, and nobody else owns.
    fn prune(&self, merged: Value, entries: &[Entry], last: &FieldSet) -> Value {
        let ty = self.ty;
        let named = |set: &FieldSet| typed::with_named_fields(ty, set);
        let last = named(last);
        let pruned = typed::remove(ty, &merged, &last);
        let managed = entries
            .iter()
            .fold(FieldSet::new(), |all, entry| all.union(entry.fields.clone()));
        let merged_set = named(&typed::field_set(ty, &merged));
        // Back comes what somebody owns …
        let kept = named(&typed::field_set(ty, &pruned)).union(named(&managed));
        let pruned = typed::remove(ty, &merged, &merged_set.clone().difference(&kept));
        // … and what this manager never had.
        let gone = merged_set.difference(&named(&typed::field_set(ty, &pruned)));
        typed::remove(ty, &merged, &gone.intersection(&last))
    }

    /// An object kept by client-side apply passes to server-side apply without a fight: where the last applied
    /// configuration still stands, kubectl may take the fields over.
    fn retry_as_kubectl(&self, conflicts: Conflicts) -> Result<Applied, Status> {
        let allowed = if self.input.manager == LAST_APPLIED_MANAGER {
            self.last_applied_fields()
        } else {
            None
        };
        let Some(allowed) = allowed else {
            return Err(conflict::status(&conflicts));
        };
        let rest: Conflicts = conflicts
            .into_iter()
            .map(|(entry, fields)| (entry, fields.difference(&allowed)))
            .filter(|(_, fields)| !fields.is_empty())
            .collect();
        if !rest.is_empty() {
            return Err(conflict::status(&rest));
        }
        self.run(true).map_err(|conflicts| conflict::status(&conflicts))
    }

    /// The fields of the annotation of client-side apply that the live object still has as they were applied.
    fn last_applied_fields(&self) -> Option<FieldSet> {
        let text = self.live.str_at(&["metadata", "annotations", LAST_APPLIED])?;
        let last = cloudeck_machinery::json::parse(text.as_bytes()).ok()?;
        if last.str_at(&["apiVersion"]) != Some(&self.input.kind.api_version()) {
            return None;
        }
        typed::validate(self.ty, &last).ok()?;
        let (_, changed) = typed::compare(self.ty, &last, &self.live).into_set_and_touched();
        Some(typed::field_set(self.ty, &last).difference(&changed))
    }
}

fn check_conflicts(entries: &[Entry], own: usize, set: &FieldSet) -> Result<(), Conflicts> {
    let others = entries.iter().enumerate().filter(|(i, _)| *i != own);
    let conflicts: Conflicts = others
        .map(|(_, entry)| (entry.clone(), entry.fields.intersection(set)))
        .filter(|(_, fields)| !fields.is_empty())
        .collect();
    if conflicts.is_empty() {
        Ok(())
    } else {
        Err(conflicts)
    }
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The one manager for whom the annotation of client-side apply is minded.
const LAST_APPLIED_MANAGER: &str = "kubectl";

/// Keeps client-side apply's annotation, where there is one, in step with what was applied.
fn renew_last_applied(object: &mut Value, patch: &Value) {
    let path = ["metadata", "annotations", LAST_APPLIED];
    if object.str_at(&path).is_none_or(str::is_empty) {
        return;
    }
    let mut patch = patch.clone();
    patch.remove_at(&path);
    let text = format!("{patch}\n");
    let others = object
        .at(&path[..2])
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(cloudeck_machinery::Map::iter);
    let others: usize = others
        .filter(|(key, _)| *key != LAST_APPLIED)
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if others + LAST_APPLIED.len() + text.len() > cloudeck_machinery::names::MAX_ANNOTATIONS_BYTES {
        object.remove_at(&path);
    } else {
        object.set_at(&path, text);
    }
}

#[cfg(test)]
mod tests;
