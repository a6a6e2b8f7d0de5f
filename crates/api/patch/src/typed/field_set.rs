//! The set of fields that a tree mentions.

use std::collections::HashMap;

use cloudeck_machinery::{Key, Map, Value};

use super::{Form, Items, Type};
use crate::fieldset::{FieldSet, Node, child, children, field_element, has_children, is_member};

/// Every leaf and every item of `value`.
pub(crate) fn field_set(ty: Type, value: &Value) -> FieldSet {
    let mut root = Node::default();
    walk(ty, value, &mut root);
    root.into_set()
}

fn walk(ty: Type, value: &Value, out: &mut Node) {
    match ty.form(Some(value)) {
        Form::Leaf => out.member = true,
        // A null is noted by the map that holds it.
        Form::Open => {}
        Form::Map => {
            for (name, member) in value.as_object().into_iter().flat_map(Map::iter) {
                let mut below = Node::default();
                walk(ty.member(name), member, &mut below);
                let empty = member.is_null() || member.as_object().is_some_and(Map::is_empty);
                below.member |= empty || !ty.declares(name);
                out.attach(field_element(name), below);
            }
        }
        Form::List(items) => list(&items, value.as_array().unwrap_or_default(), out),
    }
}

fn list(items: &Items, list: &[Value], out: &mut Node) {
    let elements: Vec<Option<Key>> = list.iter().map(|item| items.element(item).ok()).collect();
    // How often each is there, and after its first appearance nothing.
    let mut repeats: HashMap<&Key, usize> = HashMap::with_capacity(list.len());
    for element in elements.iter().flatten() {
        *repeats.entry(element).or_default() += 1;
    }
    for (item, element) in list.iter().zip(&elements) {
        let Some((element, repeats)) = element
            .as_ref()
            .and_then(|element| Some((element, repeats.remove(element)?)))
        else {
            continue;
        };
        if repeats == 1 {
            let mut below = Node::default();
            walk(items.item, item, &mut below);
            below.member = true;
            out.attach(element.clone(), below);
        } else {
            out.insert(element.clone());
        }
    }
}

/// The set with every declared field above a member made a member too: what owns `spec.replicas` owns `spec`.
pub(crate) fn with_named_fields(ty: Type, set: &FieldSet) -> FieldSet {
    named(ty, set.members()).into_set()
}

fn named(ty: Type, node: &Map) -> Node {
    let mut out = Node {
        member: is_member(node),
        children: Vec::with_capacity(node.len()),
    };
    for (element, below) in children(node) {
        let (below_type, declared) = match element.strip_prefix("f:") {
            Some(name) => (ty.member(name), ty.declares(name)),
            None => (item_type(ty), false),
        };
        let mut below_node = named(below_type, below);
        below_node.member |= declared && has_children(below);
        out.attach(element.clone(), below_node);
    }
    out
}

fn item_type(ty: Type) -> Type {
    match ty.form(None) {
        Form::List(items) => items.item,
        _ => Type::Deduced,
    }
}

/// Whether the set names exactly this element.
pub(super) fn names(node: &Map, element: &str) -> bool {
    child(node, element).is_some_and(is_member)
}
