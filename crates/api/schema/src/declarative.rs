//! Declarative validation: the rules that upstream's types state in `+k8s:` markers, with upstream's messages.
//!
//! Source: `k8s.io/apimachinery/pkg/api/validate`. Rules of every stability are applied: those that upstream still
//! compares only (`alpha`) repeat what its hand-written validation says. Unchanged values are not looked at again.
//! Object metadata is left to the server, which validates it for every kind. Not applied: `customValidation`,
//! `customUnique`, `item`, `modeDiscriminator` with `ifMode`, and the formats named in [`rule`].

mod rule;

use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{Cause, CauseType, FieldPath, Map, Value};

use crate::types::{Field, ListKind, Shape, TypeRef};
use rule::{Plain, Rule};

/// The errors of a new object, or of an update from `old`, in field order.
pub fn declarative_errors(ty: TypeRef, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut walk = Walk { errors: Vec::new() };
    walk.value(ty, new, old, &FieldPath::root());
    walk.errors
}

struct Walk {
    errors: Vec<Cause>,
}

/// What an update is compared with.
#[derive(Clone, Copy)]
enum Old<'a> {
    /// A create, or an item that was not there before.
    None,
    /// The field of the old object: unset, or its value.
    Field(Option<&'a Value>),
}

impl Walk {
    fn value(&mut self, ty: TypeRef, new: &Value, old: Option<&Value>, path: &FieldPath) {
        match (ty.shape(), new) {
            (Shape::Struct { .. }, Value::Object(map)) => {
                self.structure(ty, map, old.and_then(Value::as_object), path);
            }
            (Shape::List { item, kind }, Value::Array(items)) => {
                let old = old.and_then(Value::as_array).unwrap_or_default();
                for (i, new) in items.iter().enumerate() {
                    let before = correlated(kind, new, old);
                    if before != Some(new) {
                        self.value(item, new, before, &path.index(i));
                    }
                }
            }
            (Shape::Map { value: member, .. }, Value::Object(map)) => {
                for (key, new) in map.iter() {
                    let before = old.and_then(|old| old.get(key));
                    if before != Some(new) {
                        self.value(member, new, before, &path.key(key));
                    }
                }
            }
            (Shape::Scalar(_), new) => self.enumerated(ty, new, path),
            _ => {}
        }
    }

    fn structure(&mut self, ty: TypeRef, new: &Map, old: Option<&Map>, path: &FieldPath) {
        self.unions(ty, new, old, path);
        for field in ty.fields().filter(|field| field.leads_to_rules()) {
            let value = new.get(field.name()).filter(|value| is_set(field, value));
            let before = old.map_or(Old::None, |old| {
                Old::Field(old.get(field.name()).filter(|value| is_set(field, value)))
            });
            if matches!(before, Old::Field(before) if before == value) {
                continue;
            }
            let path = path.child(field.name());
            if !self.field(field, value, before, &path) {
                continue;
            }
            if let Some(value) = value
                && !is_object_metadata(field)
            {
                let before = if let Old::Field(before) = before {
                    before
                } else {
                    None
                };
                self.value(field.ty(), value, before, &path);
            }
        }
        self.dependencies(ty, new, path);
    }

    /// Returns whether to look further into the value.
    fn field(&mut self, field: Field, value: Option<&Value>, old: Old<'_>, path: &FieldPath) -> bool {
        let before = self.errors.len();
        for rule in field.rules().filter_map(rule::parse) {
            if let Rule::Plain(rule) = rule {
                self.gate(&rule, value, old, path);
            }
        }
        let Some(value) = value.filter(|_| self.errors.len() == before) else {
            return false;
        };
        for rule in field.rules().filter_map(rule::parse) {
            self.content(rule, field, value, path);
        }
        true
    }

    /// Rules whose failure ends the validation of a field.
    fn gate(&mut self, rule: &Plain<'_>, value: Option<&Value>, old: Old<'_>, path: &FieldPath) {
        let changed = |before: Option<&Value>| before != value;
        match (rule.name, old) {
            ("required", _) if value.is_none() => self.add(CauseType::Required, path, "Required value"),
            ("forbidden", _) if value.is_some() => self.add(CauseType::Forbidden, path, "Forbidden"),
            ("immutable", Old::Field(before)) if changed(before) => {
                self.add(
                    CauseType::Invalid,
                    path,
                    "Invalid value: null: field is immutable",
                );
            }
            ("update", Old::Field(before)) => {
                let detail = match (rule.argument, before, value) {
                    ("NoSet", None, Some(_)) => "field cannot be set once created",
                    ("NoUnset", Some(_), None) => "field cannot be cleared once set",
                    ("NoModify", Some(before), Some(value)) if before != value => {
                        "field cannot be modified once set"
                    }
                    _ => return,
                };
                self.add(CauseType::Invalid, path, format!("Invalid value: null: {detail}"));
            }
            ("maxItems", _) => {
                let size = value.map_or(0, size);
                let max = rule.number().unwrap_or(i64::MAX);
                if size as i64 > max {
                    let items = if max == 1 { "item" } else { "items" };
                    let message = format!("Too many: {size}: must have at most {max} {items}");
                    self.add(CauseType::TooMany, path, message);
                }
            }
            _ => {}
        }
    }

    /// Rules on what a value holds.
    fn content(&mut self, rule: Rule<'_>, field: Field, value: &Value, path: &FieldPath) {
        match rule {
            Rule::Plain(rule) => match rule.name {
                "unique" => self.unique(rule.argument, field, value, path),
                "listType" if rule.argument != "atomic" => self.unique(rule.argument, field, value, path),
                _ => {
                    let found = rule.check(value);
                    self.errors
                        .extend(found.into_iter().map(|(cause, message)| Cause {
                            cause,
                            message,
                            field: path.to_string(),
                        }));
                }
            },
            Rule::EachValue(inner) => {
                let Some(inner) = rule::parse(inner) else {
                    return;
                };
                for (i, item) in value.as_array().unwrap_or_default().iter().enumerate() {
                    self.content(inner, field, item, &path.index(i));
                }
                for (key, member) in value.as_object().into_iter().flat_map(Map::iter) {
                    self.content(inner, field, member, &path.key(key));
                }
            }
            Rule::EachKey(inner) => {
                for (key, _) in value.as_object().into_iter().flat_map(Map::iter) {
                    if let Some(inner) = rule::parse(inner) {
                        self.content(inner, field, &Value::from(key.as_str()), path);
                    }
                }
            }
            Rule::Subfield(name, inner) => {
                let member = value.get(name).filter(|member| member.as_str() != Some(""));
                if let (Some(inner), Some(member)) = (rule::parse(inner), member) {
                    self.content(inner, field, member, &path.child(name));
                }
            }
        }
    }

    /// Every item that equals an earlier one, or has the keys of an earlier one.
    fn unique(&mut self, kind: &str, field: Field, value: &Value, path: &FieldPath) {
        let items = value.as_array().unwrap_or_default();
        // A list that is unique by keys need not be merged by them.
        let keys: Vec<&str> = rule::plain(field)
            .filter(|rule| kind == "map" && rule.name == "listMapKey")
            .map(|rule| rule.argument)
            .collect();
        if kind == "map" && keys.is_empty() {
            return;
        }
        let same = |a: &Value, b: &Value| {
            if keys.is_empty() {
                a == b
            } else {
                keys.iter().all(|key| a.get(key) == b.get(key))
            }
        };
        for (i, item) in items.iter().enumerate() {
            if items[..i].iter().any(|earlier| same(earlier, item)) {
                let message = format!("Duplicate value: {}", shown_item(&keys, item));
                self.add(CauseType::Duplicate, &path.index(i), message);
            }
        }
    }

    fn enumerated(&mut self, ty: TypeRef, value: &Value, path: &FieldPath) {
        let is_rule = ty
            .rules()
            .filter_map(rule::parse)
            .any(|rule| matches!(rule, Rule::Plain(rule) if rule.name == "enum"));
        let Some(text) = value.as_str().filter(|_| is_rule) else {
            return;
        };
        if !ty.enum_values().any(|known| known == text) {
            let known: Vec<String> = ty.enum_values().map(quote).collect();
            let message = format!(
                "Unsupported value: {text:?}: supported values: {}",
                known.join(", ")
            );
            self.add(CauseType::NotSupported, path, message);
        }
    }

    /// Exactly one member of each union must be set.
    fn unions(&mut self, ty: TypeRef, new: &Map, old: Option<&Map>, path: &FieldPath) {
        let members: Vec<Field> = ty
            .fields()
            .filter(|field| {
                field.leads_to_rules() && rule::plain(*field).any(|rule| rule.name == "unionMember")
            })
            .collect();
        if members.is_empty() {
            return;
        }
        let set = |map: &Map| -> Vec<&'static str> {
            let is_set = |field: &Field| map.get(field.name()).is_some_and(|value| is_set(*field, value));
            members.iter().copied().filter(is_set).map(Field::name).collect()
        };
        let specified = set(new);
        if specified.len() == 1 || old.is_some_and(|old| set(old) == specified) {
            return;
        }
        let quoted = |names: &[&str]| {
            names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let all: Vec<&str> = members.iter().map(|field| field.name()).collect();
        let message = if specified.is_empty() {
            format!("Invalid value: \"\": must specify one of: {}", quoted(&all))
        } else {
            let given = format!("{{{}}}", specified.join(", "));
            format!(
                "Invalid value: {given:?}: must specify exactly one of: {}",
                quoted(&all)
            )
        };
        self.add(CauseType::Invalid, path, message);
    }

    /// Fields that others demand or forbid.
    fn dependencies(&mut self, ty: TypeRef, new: &Map, path: &FieldPath) {
        let set = |name: &str| {
            ty.field(name)
                .is_some_and(|field| new.get(name).is_some_and(|value| is_set(field, value)))
        };
        for field in ty
            .fields()
            .filter(|field| field.leads_to_rules() && set(field.name()))
        {
            for rule in rule::plain(field) {
                let other = rule.argument;
                if rule.name == "dependentRequired" && !set(other) {
                    let message = format!("Required value: must be set when {} is set", field.name());
                    self.add(CauseType::Required, &path.child(other), message);
                } else if rule.name == "dependentForbidden" && set(other) {
                    let message = format!("Forbidden: may not be set when {} is set", field.name());
                    self.add(CauseType::Forbidden, &path.child(other), message);
                }
            }
        }
    }

    fn add(&mut self, cause: CauseType, path: &FieldPath, message: impl Into<String>) {
        self.errors.push(Cause {
            cause,
            message: message.into(),
            field: path.to_string(),
        });
    }
}

/// The item of the old list that a new item continues.
fn correlated<'a>(kind: ListKind, new: &Value, old: &'a [Value]) -> Option<&'a Value> {
    match kind {
        ListKind::Map(keys) => old
            .iter()
            .find(|item| keys.names().all(|key| item.get(key) == new.get(key))),
        ListKind::Atomic | ListKind::Set => old.iter().find(|item| *item == new),
    }
}

/// As Go sees it: pointers that are not null, and values that are not zero.
fn is_set(field: Field, value: &Value) -> bool {
    match value {
        Value::Null => false,
        _ if field.pointer() => true,
        Value::Bool(flag) => *flag,
        Value::Int(number) => *number != 0,
        Value::Float(number) => *number != 0.0,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn is_object_metadata(field: Field) -> bool {
    field.ty().name() == "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    }
}

/// The keys of an item, or all of it.
fn shown_item(keys: &[&str], item: &Value) -> String {
    if keys.is_empty() {
        return item.to_string();
    }
    let shown: Map = keys
        .iter()
        .map(|key| (*key, item.get(key).cloned().unwrap_or_default()))
        .collect();
    Value::Object(shown).to_string()
}

#[cfg(test)]
mod tests;
