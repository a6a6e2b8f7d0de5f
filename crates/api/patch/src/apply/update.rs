//! The tracking of creates, updates and patches other than apply.

use cloudeck_machinery::{Key, Map, Value};
use cloudeck_schema::TypeRef;

use crate::fieldset::FieldSet;
use crate::managed::{self, Entry};
use crate::typed::{self, Type};

/// A write about to be stored. Trees are normalised.
#[derive(Debug)]
pub struct UpdateInput<'a> {
    /// The stored object; `None` creates.
    pub old: Option<&'a Value>,
    /// What will be stored. Its `managedFields` are the client's at entry, the record's at return.
    pub new: &'a mut Value,
    /// The root type; `None` for kinds without a schema.
    pub ty: Option<TypeRef>,
    /// See [`super::manager_name`].
    pub manager: &'a str,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// The request's version: `apps/v1`.
    pub api_version: &'a str,
    /// Fields that this resource does not write.
    pub reset_fields: &'a [&'a [&'a str]],
    /// RFC 3339, in seconds and UTC.
    pub now: &'a str,
}

/// Records who changed what. A write that changes nothing leaves the record as it was.
pub fn track_update(input: UpdateInput<'_>) {
    let path = ["metadata", "managedFields"];
    let asked = input.new.remove_at(&path);
    let recorded = input.old.and_then(|old| old.at(&path));
    // A subresource cannot touch the record; and what a client sends back untouched is no wish.
    let asked = asked.filter(|asked| input.subresource.is_empty() && Some(asked) != recorded);
    let empty;
    let old = if let Some(old) = input.old {
        old
    } else {
        empty = empty_like(input.ty, input.new);
        &empty
    };
    let mut changes = typed::compare(Type::of(input.ty), old, input.new);
    changes.removed.remove_path(&path);
    if !input.reset_fields.is_empty() {
        changes.exclude(&FieldSet::of_paths(input.reset_fields));
    }
    if changes.is_empty() && asked.is_none() {
        if let Some(recorded) = recorded {
            input.new.set_at(&path, recorded.clone());
        }
        return;
    }
    let mut entries = starting_entries(asked, recorded);
    let exists = input.old.is_some_and(|old| {
        old.str_at(&["metadata", "uid"])
            .is_some_and(|uid| !uid.is_empty())
    });
    if entries.is_empty() && exists {
        // Nobody tracks this object; only an apply changes that.
        return;
    }
    if !changes.is_empty() {
        let mut set = if entries.is_empty() {
            changes.into_set()
        } else {
            let (set, touched) = changes.into_set_and_touched();
            for entry in &mut entries {
                entry.fields.subtract(&touched);
            }
            entries.retain(|entry| !entry.fields.is_empty());
            set
        };
        strip(&mut set);
        if !set.is_empty() {
            record(&mut entries, set, &input);
        }
    }
    managed::cap_updaters(&mut entries);
    managed::encode(entries, input.new);
}

/// The client's entries when it sent usable ones, else those on record.
fn starting_entries(asked: Option<Value>, recorded: Option<&Value>) -> Vec<Entry> {
    let on_record = || managed::decode(recorded, true).unwrap_or_default();
    let Some(asked) = asked else {
        return on_record();
    };
    if managed::is_reset(&asked) {
        return Vec::new();
    }
    match managed::decode(Some(&asked), false) {
        Ok(entries) if !entries.is_empty() => entries,
        _ => on_record(),
    }
}

fn empty_like(ty: Option<TypeRef>, new: &Value) -> Value {
    let mut empty = ty.map_or_else(Value::object, typed::zero_object);
    for name in ["apiVersion", "kind"] {
        if let Some(text) = new.get(name) {
            empty.set_at(&[name], text.clone());
        }
    }
    empty
}

fn record(entries: &mut Vec<Entry>, fields: FieldSet, input: &UpdateInput<'_>) {
    let entry = Entry {
        manager: Key::from(if input.manager.is_empty() {
            "unknown"
        } else {
            input.manager
        }),
        applied: false,
        api_version: input.api_version.into(),
        subresource: input.subresource.into(),
        time: Some(input.now.into()),
        fields,
    };
    match entries.iter_mut().find(|other| other.is_same_manager(&entry)) {
        Some(other) => {
            other.fields.absorb(entry.fields);
            other.time = entry.time;
        }
        None => entries.push(entry),
    }
}

/// Takes out what nobody owns: identity, and what the server alone writes.
pub(super) fn strip(fields: &mut FieldSet) {
    const FIELDS: [&[&str]; 12] = [
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ];
    for field in FIELDS {
        fields.remove_path(field);
    }
}

/// When an update differs from the stored object only in the times of its record (and its resourceVersion), puts the
/// stored record back, so that the write is seen to change nothing. Returns whether it did.
pub fn keep_times_of_no_change(old: &Value, new: &mut Value) -> bool {
    let path = ["metadata", "managedFields"];
    let (stored, record) = (old.items_at(&path), new.items_at(&path));
    if stored == record || !same_but_record(old, new) || !same_but_times(stored, record) {
        return false;
    }
    if let Some(stored) = old.at(&path) {
        new.set_at(&path, stored.clone());
    }
    true
}

/// Entries are sorted by time, so that a new time may move one.
fn same_but_times(left: &[Value], right: &[Value]) -> bool {
    let same = |left: &Value, right: &Value| match (left, right) {
        (Value::Object(left), Value::Object(right)) => equal_without(left, right, &["time"]),
        _ => false,
    };
    left.len() == right.len()
        && right
            .iter()
            .all(|entry| left.iter().any(|other| same(other, entry)))
}

fn same_but_record(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return false;
    };
    let metadata = |map| Map::get(map, "metadata").and_then(Value::as_object);
    let (Some(old_metadata), Some(new_metadata)) = (metadata(old), metadata(new)) else {
        return false;
    };
    equal_without(old_metadata, new_metadata, &["managedFields", "resourceVersion"])
        && equal_without(old, new, &["metadata"])
}

/// Whether two maps are equal but for some members.
fn equal_without(left: &Map, right: &Map, but: &[&str]) -> bool {
    let kept = |(name, _): &(&Key, &Value)| !but.contains(&name.as_str());
    left.iter().filter(kept).eq(right.iter().filter(kept))
}
