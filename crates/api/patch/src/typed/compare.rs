//! What changed between two trees, as sets of fields.

use std::cmp::Ordering;
use std::collections::HashMap;

use cloudeck_machinery::{Key, Map, Value};

use super::{Form, Items, Type};
use crate::fieldset::{FieldSet, Node, field_element};

/// What a second tree removed, changed and added. No field is in more than one set.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) removed: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) added: FieldSet,
}

impl Comparison {
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Without the fields of `set` and everything below them.
    pub(crate) fn exclude(&mut self, set: &FieldSet) {
        for part in [&mut self.removed, &mut self.modified, &mut self.added] {
            part.subtract_below(set);
        }
    }

    /// What the second tree says anew.
    pub(crate) fn into_set(self) -> FieldSet {
        self.modified.union(self.added)
    }

    /// As [`Comparison::into_set`], and everything that changed at all.
    pub(crate) fn into_set_and_touched(self) -> (FieldSet, FieldSet) {
        let Self {
            removed,
            modified,
            added,
        } = self;
        let set = modified.union(added);
        let touched = set.clone().union(removed);
        (set, touched)
    }
}

/// Compares two trees of one type.
pub(crate) fn compare(ty: Type, old: &Value, new: &Value) -> Comparison {
    let mut changes = Changes::default();
    walk(ty, Some(old), Some(new), &mut changes);
    Comparison {
        removed: changes.removed.into_set(),
        modified: changes.modified.into_set(),
        added: changes.added.into_set(),
    }
}

#[derive(Default)]
struct Changes {
    removed: Node,
    modified: Node,
    added: Node,
}

impl Changes {
    fn attach(&mut self, element: &Key, below: Changes) {
        for (set, child) in [
            (&mut self.removed, below.removed),
            (&mut self.modified, below.modified),
            (&mut self.added, below.added),
        ] {
            if !child.is_empty() {
                set.attach(element.clone(), child);
            }
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, _) => self.added.member = true,
            (_, None) => self.removed.member = true,
            (Some(old), Some(new)) => self.modified.member |= !same(old, new),
        }
    }
}

fn walk(ty: Type, old: Option<&Value>, new: Option<&Value>, out: &mut Changes) {
    if let (None, Some(new)) = (old, new) {
        // Most of a new object: there is nothing to compare with.
        out.added = Node {
            member: true,
            children: added(ty, new),
        };
        return;
    }
    match ty.declared_form() {
        Some(Form::Leaf | Form::Open) => out.leaf(old, new),
        Some(Form::Map) => map(ty, old, new, out),
        Some(Form::List(items)) => list(&items, old, new, out),
        None => walk_deduced(ty, old, new, out),
    }
}

fn walk_deduced(ty: Type, old: Option<&Value>, new: Option<&Value>, out: &mut Changes) {
    match (ty.form(old), ty.form(new)) {
        (Form::Map, Form::Map | Form::Open) | (Form::Open, Form::Map) => map(ty, old, new, out),
        // A map became something else or the other way round: its members come or go, and the value changed.
        (Form::Map, Form::Leaf) | (Form::Leaf, Form::Map) => {
            let members = |value: Option<&Value>| value.filter(|value| value.as_object().is_some()).cloned();
            map(ty, members(old).as_ref(), members(new).as_ref(), out);
            out.leaf(old, new);
            (out.added.member, out.removed.member) = (old.is_none(), new.is_none());
        }
        _ => out.leaf(old, new),
    }
}

fn map(ty: Type, old: Option<&Value>, new: Option<&Value>, out: &mut Changes) {
    let filled = |value: Option<&Value>| {
        value
            .and_then(Value::as_object)
            .is_some_and(|members| !members.is_empty())
    };
    if !filled(old) && !filled(new) {
        // Nothing in either: a leaf, so that null, empty and absent are told apart.
        return out.leaf(old, new);
    }
    let empty = Map::new();
    let old_members = old.and_then(Value::as_object).unwrap_or(&empty);
    let new_members = new.and_then(Value::as_object).unwrap_or(&empty);
    zip(old_members, new_members, |name, old, new| {
        let mut below = Changes::default();
        walk(ty.member(name), old, new, &mut below);
        if !(below.removed.is_empty() && below.modified.is_empty() && below.added.is_empty()) {
            out.attach(&field_element(name), below);
        }
    });
    out.added.member |= old.is_none();
    out.removed.member |= new.is_none();
}

/// What lies below a value that was not there before.
fn added(ty: Type, new: &Value) -> Vec<(Key, Value)> {
    let (members, items) = (new.as_object(), new.as_array().unwrap_or_default());
    let form = ty.declared_form().unwrap_or_else(|| ty.form(Some(new)));
    match (form, members) {
        (Form::Map, Some(members)) => {
            let member = |(name, value): (&Key, &Value)| {
                let below = Node {
                    member: true,
                    children: added(ty.member(name), value),
                };
                (field_element(name), Value::Object(below.into_tree()))
            };
            members.iter().map(member).collect()
        }
        (Form::List(declared), _) => {
            let group = |(element, group): (Key, Vec<&Value>)| {
                let below = match *group {
                    [one] => added(declared.item, one),
                    // Items that share an element are one value.
                    _ => Vec::new(),
                };
                let below = Node {
                    member: true,
                    children: below,
                };
                (element, Value::Object(below.into_tree()))
            };
            groups(&declared, items).all.into_iter().map(group).collect()
        }
        _ => Vec::new(),
    }
}

/// Walks the members of two maps together.
pub(super) fn zip<'a>(
    left: &'a Map,
    right: &'a Map,
    mut visit: impl FnMut(&'a Key, Option<&'a Value>, Option<&'a Value>),
) {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let l = if order.is_le() { left.next() } else { None };
        let r = if order.is_ge() { right.next() } else { None };
        if let Some((name, _)) = l.or(r) {
            visit(name, l.map(|(_, value)| value), r.map(|(_, value)| value));
        }
    }
}

fn list(items: &Items, old: Option<&Value>, new: Option<&Value>, out: &mut Changes) {
    let old_items = old.and_then(Value::as_array).unwrap_or_default();
    let new_items = new.and_then(Value::as_array).unwrap_or_default();
    if old_items.is_empty() && new_items.is_empty() {
        return out.leaf(old, new);
    }
    if old_items != new_items {
        let (old_groups, new_groups) = (groups(items, old_items), groups(items, new_items));
        for (element, old) in &old_groups.all {
            compare_group(items, element, old, new_groups.find(element), out);
        }
        for (element, new) in &new_groups.all {
            if old_groups.find(element).is_empty() {
                compare_group(items, element, &[], new, out);
            }
        }
    }
    out.added.member |= old.is_none();
    out.removed.member |= new.is_none();
}

/// The items by their element, in order of first appearance.
struct Groups<'a> {
    all: Vec<(Key, Vec<&'a Value>)>,
    places: HashMap<Key, usize>,
}

/// Items without an element are left out: what is stored has been validated, and upstream would refuse to compare.
fn groups<'a>(items: &Items, list: &'a [Value]) -> Groups<'a> {
    let mut all: Vec<(Key, Vec<&'a Value>)> = Vec::with_capacity(list.len());
    let mut places = HashMap::with_capacity(list.len());
    for item in list {
        let Ok(element) = items.element(item) else {
            continue;
        };
        if let Some(&place) = places.get(&element) {
            let (_, group): &mut (Key, Vec<&'a Value>) = &mut all[place];
            group.push(item);
        } else {
            places.insert(element.clone(), all.len());
            all.push((element, vec![item]));
        }
    }
    Groups { all, places }
}

impl<'a> Groups<'a> {
    fn find(&self, element: &Key) -> &[&'a Value] {
        self.places
            .get(element)
            .map_or(&[], |place| self.all[*place].1.as_slice())
    }
}

/// Items that share an element are compared as one value.
fn compare_group(items: &Items, element: &Key, old: &[&Value], new: &[&Value], out: &mut Changes) {
    let mut below = Changes::default();
    match (old.len() > 1, new.len() > 1) {
        (false, false) => walk(items.item, old.first().copied(), new.first().copied(), &mut below),
        (true, true) => {
            below.modified.member =
                old.len() != new.len() || old.iter().zip(new).any(|(old, new)| !same(old, new));
        }
        (true, false) => {
            if let Some(new) = new.first() {
                walk(items.item, None, Some(new), &mut below);
            }
            below.removed.member = true;
        }
        (false, true) => {
            if let Some(old) = old.first() {
                walk(items.item, Some(old), None, &mut below);
            }
            below.added.member = true;
        }
    }
    out.attach(element, below);
}

/// Equality with integers and floats compared as numbers.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Int(int), Value::Float(float)) | (Value::Float(float), Value::Int(int)) => {
            (*int as f64).total_cmp(float).is_eq()
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right.iter())
                    .all(|((a, left), (b, right))| a == b && same(left, right))
        }
        _ => left == right,
    }
}
