//! `metadata.managedFields`: who said what, and when.

use std::cmp::Ordering;

use cloudeck_machinery::{Key, Map, Value};

use crate::fieldset::FieldSet;

/// More managers by update than this are merged into [`ANCIENT`].
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// One entry: the fields that one manager set by one kind of operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: Key,
    pub(crate) applied: bool,
    pub(crate) api_version: Key,
    pub(crate) subresource: Key,
    pub(crate) time: Option<Key>,
    pub(crate) fields: FieldSet,
}

impl Entry {
    /// Whether both are the same manager's same operation. An applier keeps its identity across versions.
    pub(crate) fn is_same_manager(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.applied == other.applied
            && self.subresource == other.subresource
            && (self.applied || self.api_version == other.api_version)
    }

    /// The identity as the JSON text by which upstream orders managers.
    pub(crate) fn identity(&self) -> String {
        let mut out = Vec::with_capacity(64);
        let mut member = |prefix: &str, text: &str| {
            if !text.is_empty() {
                out.extend_from_slice(prefix.as_bytes());
                cloudeck_machinery::json::write_string(text, &mut out);
            }
        };
        member("\"manager\":", &self.manager);
        member(",\"operation\":", if self.applied { "Apply" } else { "Update" });
        member(
            ",\"apiVersion\":",
            if self.applied { "" } else { &self.api_version },
        );
        member(",\"subresource\":", &self.subresource);
        out.push(b'}');
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Reads one entry. `trusted` ones have canonical fields, because this module wrote them.
    fn read(entry: &Value, at: usize, trusted: bool) -> Result<Self, String> {
        let text = |name: &str| Key::from(entry.str_at(&[name]).unwrap_or_default());
        let applied = match entry.str_at(&["operation"]) {
            Some("Apply") => true,
            Some("Update") => false,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match entry.str_at(&["fieldsType"]).unwrap_or_default() {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
            other => {
                return Err(format!(
                    "invalid fieldsType {other:?} in managed fields entry {at}"
                ));
            }
        }
        let fields = entry.get("fieldsV1").unwrap_or(&Value::Null);
        let fields = if trusted {
            FieldSet::from_canonical(fields.clone())
        } else {
            FieldSet::from_value(fields).map_err(|why| format!("error decoding set: {why}"))?
        };
        Ok(Self {
            manager: text("manager"),
            applied,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: entry.str_at(&["time"]).map(Key::from),
            fields,
        })
    }

    fn into_value(self) -> Value {
        let mut entry = Map::with_capacity(7);
        entry.insert("apiVersion", Value::String(self.api_version));
        entry.insert("fieldsType", Value::from("FieldsV1"));
        entry.insert("fieldsV1", self.fields.into_value());
        if !self.manager.is_empty() {
            entry.insert("manager", Value::String(self.manager));
        }
        entry.insert(
            "operation",
            Value::from(if self.applied { "Apply" } else { "Update" }),
        );
        if !self.subresource.is_empty() {
            entry.insert("subresource", Value::String(self.subresource));
        }
        if let Some(time) = self.time {
            entry.insert("time", Value::String(time));
        }
        Value::Object(entry)
    }

    /// Appliers first, then by time (RFC 3339 in UTC orders as text), manager, version and subresource.
    fn order(&self, other: &Self) -> Ordering {
        (other.applied.cmp(&self.applied))
            .then_with(|| self.time.cmp(&other.time))
            .then_with(|| self.manager.cmp(&other.manager))
            .then_with(|| self.api_version.cmp(&other.api_version))
            .then_with(|| self.subresource.cmp(&other.subresource))
    }
}

/// Reads the entries of `metadata.managedFields`.
///
/// # Errors
/// An entry is malformed; the text is upstream's.
pub(crate) fn decode(entries: Option<&Value>, trusted: bool) -> Result<Vec<Entry>, String> {
    let entries = entries.and_then(Value::as_array).unwrap_or_default();
    let mut out: Vec<Entry> = Vec::with_capacity(entries.len() + 1);
    for (at, entry) in entries.iter().enumerate() {
        let entry = Entry::read(entry, at, trusted)?;
        match out.iter_mut().find(|other| other.is_same_manager(&entry)) {
            Some(other) => *other = entry,
            None => out.push(entry),
        }
    }
    Ok(out)
}

/// Writes the entries into the object, in upstream's order; none leave no member behind.
pub(crate) fn encode(mut entries: Vec<Entry>, object: &mut Value) {
    if entries.is_empty() {
        object.remove_at(&["metadata", "managedFields"]);
        return;
    }
    entries.sort_by(Entry::order);
    let entries: Vec<Value> = entries.into_iter().map(Entry::into_value).collect();
    object.set_at(&["metadata", "managedFields"], entries);
}

/// Whether a client asks for the entries to be forgotten: `[]` or `[{}]`.
pub(crate) fn is_reset(entries: &Value) -> bool {
    match entries.as_array() {
        Some([]) => true,
        Some([one]) => one
            .as_object()
            .is_some_and(|entry| entry.values().all(Value::is_null)),
        _ => false,
    }
}

/// Merges the oldest updaters of a version with one another until no more than [`MAX_UPDATERS`] are left.
pub(crate) fn cap_updaters(entries: &mut Vec<Entry>) {
    let mut excess = entries
        .iter()
        .filter(|entry| !entry.applied)
        .count()
        .saturating_sub(MAX_UPDATERS);
    if excess == 0 {
        return;
    }
    entries.sort_by_cached_key(|entry| (entry.applied, entry.time.clone(), entry.identity()));
    let mut at = 0;
    while excess > 0 && at < entries.len() && !entries[at].applied {
        let version = entries[at].api_version.clone();
        let Some(first) = entries[..at]
            .iter()
            .position(|entry| entry.api_version == version)
        else {
            at += 1;
            continue;
        };
        // The first of its version becomes the bucket, unless one is there already.
        let is_bucket = |entry: &Entry| {
            !entry.applied
                && entry.manager == ANCIENT
                && entry.api_version == version
                && entry.subresource.is_empty()
        };
        let bucket = entries.iter().position(is_bucket).unwrap_or(first);
        if bucket == at {
            at += 1;
            continue;
        }
        let merged = entries.remove(at);
        let bucket = &mut entries[bucket - usize::from(bucket > at)];
        bucket.manager = Key::const_new(ANCIENT);
        bucket.subresource = Key::default();
        bucket.fields.absorb(merged.fields);
        bucket.time = merged.time;
        excess -= 1;
    }
}

#[cfg(test)]
mod tests;
