//! Merging lists: by key, or as sets of scalars; and the order of the outcome.
//!
//! Items that the patch names take the patch's order (or that of `$setElementOrder`), the others keep the live list's, and
//! the two are interleaved so that live neighbours stay neighbours where they can.

use cloudeck_machinery::{Map, Value};

use super::facts::Member;
use super::{DIRECTIVE, StrategicError, bad_directive, merge_map, wrong_type};
use crate::go::{go, go_type};

const MAP_TYPE: &str = "map[string]interface {}";

/// What the items of a list are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Elements {
    Maps,
    Scalars,
}

impl Elements {
    /// Of several lists that must all hold the same.
    pub(super) fn of(lists: &[&[Value]]) -> Result<Self, StrategicError> {
        let mut items = lists.iter().flat_map(|list| list.iter());
        let unfit = |why: String| Err(StrategicError::Unfit(why));
        let Some(first) = items.next() else {
            return unfit("no elements in any of the given slices".into());
        };
        if first.as_array().is_some() {
            return Err(StrategicError::ListOfLists);
        }
        if first.is_null() || items.any(|item| go_type(item) != go_type(first)) {
            let printed: Vec<String> = lists
                .iter()
                .map(|list| go(&Value::Array(list.to_vec())))
                .collect();
            return unfit(format!(
                "list element types are not identical: [{}]",
                printed.join(" ")
            ));
        }
        Ok(if first.as_object().is_some() {
            Self::Maps
        } else {
            Self::Scalars
        })
    }
}

/// Merges `patch` into `original`; with `deletes`, takes its items away.
pub(super) fn merge(
    member: &Member,
    original: Vec<Value>,
    patch: Vec<Value>,
    deletes: bool,
) -> Result<Vec<Value>, StrategicError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let elements = Elements::of(&[&original, &patch])?;
    if elements == Elements::Scalars {
        if deletes {
            return Ok(original
                .into_iter()
                .filter(|item| !patch.contains(item))
                .collect());
        }
        let mut merged = original.clone();
        merged.extend(patch.iter().cloned());
        return arrange(deduplicate(merged), &patch, &original, member.key, elements);
    }
    let Some(key) = member.key else {
        let why = format!("cannot merge lists without merge key for {}", member.kind());
        return Err(StrategicError::Unfit(why));
    };
    let (original, patch) = follow_directives(original, patch, key)?;
    let keys = |items: &[Value]| -> Vec<Value> { items.iter().map(|item| only_key(item, key)).collect() };
    let (order, live_order) = (keys(&patch), keys(&original));
    let mut merged = original;
    for item in patch {
        let Value::Object(item) = item else {
            continue;
        };
        let value = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
        match merged.iter_mut().find(|other| other.get(key) == Some(value)) {
            Some(Value::Object(found)) => *found = merge_map(member.ty(), std::mem::take(found), item)?,
            _ => merged.push(Value::Object(item)),
        }
    }
    arrange(merged, &order, &live_order, Some(key), elements)
}

/// An item with nothing but its key: enough to tell the order.
fn only_key(item: &Value, key: &str) -> Value {
    Value::Object(
        item.get(key)
            .map(|value| (key, value.clone()))
            .into_iter()
            .collect::<Map>(),
    )
}

/// Carries out `$patch: delete` and `$patch: replace` items. Gives the live items that stay and the plain patch items.
fn follow_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), StrategicError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE).cloned() else {
            plain.push(item);
            continue;
        };
        let members = item.as_object().cloned().unwrap_or_default();
        match directive.as_str() {
            Some("delete") => {
                let value = members.get(key).ok_or_else(|| no_merge_key(&members, key))?;
                original.retain(|other| other.get(key) != Some(value));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                let why = "merging lists cannot yet be specified in the patch";
                return Err(StrategicError::Unfit(why.into()));
            }
            _ => return Err(bad_directive(&directive, members)),
        }
    }
    Ok(if replace {
        (plain, Vec::new())
    } else {
        (original, plain)
    })
}

fn no_merge_key(item: &Map, key: &str) -> StrategicError {
    let item = go(&Value::Object(item.clone()));
    StrategicError::Unfit(format!("map: {item} does not contain declared merge key: {key}"))
}

/// Upstream's: the last item moves into the place of a repeated one.
fn deduplicate(mut items: Vec<Value>) -> Vec<Value> {
    let mut i = 0;
    while i + 1 < items.len() {
        let mut j = i + 1;
        while j < items.len() {
            if items[i] == items[j] {
                items.swap_remove(j);
            } else {
                j += 1;
            }
        }
        i += 1;
    }
    items
}

/// Puts `merged` in order: what is in `order` by it, the rest by `live_order`, interleaved by `live_order`.
pub(super) fn arrange(
    merged: Vec<Value>,
    order: &[Value],
    live_order: &[Value],
    key: Option<&str>,
    elements: Elements,
) -> Result<Vec<Value>, StrategicError> {
    let mut named = Vec::with_capacity(merged.len());
    let mut others = Vec::with_capacity(merged.len());
    for item in merged {
        let is_named = match key {
            None => order.contains(&item),
            Some(key) => {
                let members = item.as_object().ok_or_else(|| wrong_type(MAP_TYPE, &item))?;
                let value = members.get(key).ok_or_else(|| no_merge_key(members, key))?;
                order.iter().any(|other| other.get(key) == Some(value))
            }
        };
        if is_named {
            named.push(item);
        } else {
            others.push(item);
        }
    }
    if let (Elements::Maps, Some(key)) = (elements, key) {
        for item in order.iter().chain(live_order) {
            let members = item.as_object().ok_or_else(|| wrong_type(MAP_TYPE, item))?;
            if !members.contains_key(key) {
                return Err(no_merge_key(members, key));
            }
        }
    }
    let place = |list: &[Value], item: &Value| position(list, item, key, elements);
    let named = sort(named, |item| place(order, item), elements);
    let others = sort(others, |item| place(live_order, item), elements);
    Ok(interleave(others, named, |item| place(live_order, item)))
}

/// The live list as upstream consults it for the order, after it merged `patch` into that same memory: items that the
/// patch deleted have made room for items that it adds.
pub(super) fn live_order(live: &[Value], patch: Option<&[Value]>, member: &Member) -> Vec<Value> {
    let (Some(patch), Some(key), true) = (patch, member.key, member.merge) else {
        return live.to_vec();
    };
    let directive = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str).map(str::to_owned);
    if patch
        .iter()
        .any(|item| directive(item).as_deref() == Some("replace"))
    {
        return live.to_vec();
    }
    let deleted = |item: &Value| {
        patch
            .iter()
            .any(|other| directive(other).is_some() && other.get(key) == item.get(key))
    };
    let added = |item: &&Value| {
        directive(item).is_none()
            && !live
                .iter()
                .any(|other| other.get(key) == item.get(key) && !deleted(other))
    };
    let kept = live.iter().filter(|item| !deleted(item));
    let mut order: Vec<Value> = kept.chain(patch.iter().filter(added)).cloned().collect();
    order.truncate(live.len());
    order
}

fn position(list: &[Value], item: &Value, key: Option<&str>, elements: Elements) -> Option<usize> {
    match (elements, key) {
        (Elements::Maps, Some(key)) => {
            let value = item.get(key);
            list.iter().position(|other| other.get(key) == value)
        }
        _ => list.iter().position(|other| other == item),
    }
}

/// Sorts by place. An item without a place moves in front of its neighbour, as upstream's comparison has it; deletions
/// go last.
fn sort(items: Vec<Value>, place: impl Fn(&Value) -> Option<usize>, elements: Elements) -> Vec<Value> {
    let is_deletion = |item: &Value| {
        elements == Elements::Maps && item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete")
    };
    let (deletions, items): (Vec<Value>, Vec<Value>) = items.into_iter().partition(is_deletion);
    let mut placed: Vec<(Option<usize>, Value)> =
        items.into_iter().map(|item| (place(&item), item)).collect();
    if placed.iter().all(|(place, _)| place.is_some()) {
        placed.sort_by_key(|(place, _)| *place);
    } else {
        for i in 1..placed.len() {
            let mut j = i;
            while j > 0
                && placed[j]
                    .0
                    .zip(placed[j - 1].0)
                    .is_none_or(|(this, before)| this < before)
            {
                placed.swap(j, j - 1);
                j -= 1;
            }
        }
    }
    placed
        .into_iter()
        .map(|(_, item)| item)
        .chain(deletions)
        .collect()
}

fn interleave(left: Vec<Value>, right: Vec<Value>, place: impl Fn(&Value) -> Option<usize>) -> Vec<Value> {
    let mut out = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return out,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => place(l).zip(place(r)).is_some_and(|(l, r)| l < r),
        };
        out.extend(if take_left { left.next() } else { right.next() });
    }
}

/// Whether the patch's items stand in the order that `$setElementOrder` gives, and all in it.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), StrategicError> {
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let deletion = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
    if key.is_some()
        && let Some(odd) = patch.iter().find(|item| item.as_object().is_none())
    {
        return Err(wrong_type(MAP_TYPE, odd));
    }
    let mut items = patch
        .iter()
        .filter(|item| key.is_none() || !deletion(item))
        .peekable();
    let mut order_items = order.iter().peekable();
    while let Some(item) = items.peek() {
        let Some(wanted) = order_items.peek() else {
            let (patch, order) = (
                go(&Value::Array(patch.to_vec())),
                go(&Value::Array(order.to_vec())),
            );
            let why = format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            );
            return Err(StrategicError::Unfit(why));
        };
        if item.get(DIRECTIVE).is_some() {
            items.next();
            continue;
        }
        if equal_keys(item, wanted, key)? {
            items.next();
        }
        order_items.next();
    }
    Ok(())
}

fn equal_keys(item: &Value, wanted: &Value, key: Option<&str>) -> Result<bool, StrategicError> {
    let Some(key) = key else {
        return Ok(item == wanted);
    };
    let value = |item: &Value| match item {
        Value::Object(members) => members
            .get(key)
            .cloned()
            .ok_or_else(|| no_merge_key(members, key)),
        other => Err(wrong_type(MAP_TYPE, other)),
    };
    Ok(value(item)? == value(wanted)?)
}
