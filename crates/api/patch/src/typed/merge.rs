//! Laying an applied tree over a live one.

use std::collections::{HashMap, HashSet};

use cloudeck_machinery::{Key, Map, Value};

use super::compare::zip;
use super::{Form, Items, Type};

/// The live tree with everything that `applied` mentions set as it says. Nothing is removed.
///
/// Items of lists keep the live order where `applied` leaves them alone, and take the applied order where it does not.
pub(crate) fn merge(ty: Type, live: &Value, applied: &Value) -> Value {
    match (ty.form(Some(live)), ty.form(Some(applied))) {
        (Form::Map, Form::Map | Form::Open) | (Form::Open, Form::Map) => merge_maps(ty, live, applied),
        (Form::List(items), _) => merge_lists(&items, live, applied),
        _ => applied.clone(),
    }
}

fn merge_maps(ty: Type, live: &Value, applied: &Value) -> Value {
    let empty = Map::new();
    let live_members = live.as_object().unwrap_or(&empty);
    let applied_members = applied.as_object().unwrap_or(&empty);
    if live_members.is_empty() && applied_members.is_empty() {
        // Keeps null and empty apart.
        return applied.clone();
    }
    let mut out = Map::with_capacity(live_members.len().max(applied_members.len()));
    zip(live_members, applied_members, |name, live, applied| {
        let merged = match (live, applied) {
            (Some(live), Some(applied)) => merge(ty.member(name), live, applied),
            (one, other) => one.or(other).cloned().unwrap_or_default(),
        };
        out.insert(name, merged);
    });
    Value::Object(out)
}

fn merge_lists(items: &Items, live: &Value, applied: &Value) -> Value {
    let live_items = live.as_array().unwrap_or_default();
    let applied_items = applied.as_array().unwrap_or_default();
    if live_items.is_empty() && applied_items.is_empty() {
        return applied.clone();
    }
    let merged = ListMerge::new(items, live_items, applied_items).run();
    if merged.is_empty() {
        applied.clone()
    } else {
        Value::Array(merged)
    }
}

/// The state of upstream's two-pointer merge of lists.
struct ListMerge<'a> {
    items: &'a Items,
    live: Vec<(Key, &'a Value)>,
    applied: Vec<(Key, &'a Value)>,
    /// Of the live items with a key the first, unless there are several.
    single: HashMap<Key, Option<&'a Value>>,
    applied_keys: HashSet<Key>,
    /// Applied items that the live list has too, in applied order.
    shared: std::collections::VecDeque<Key>,
    done: HashSet<Key>,
    out: Vec<Value>,
}

impl<'a> ListMerge<'a> {
    fn new(items: &'a Items, live: &'a [Value], applied: &'a [Value]) -> Self {
        let index = |list: &'a [Value]| -> Vec<(Key, &'a Value)> {
            list.iter()
                .filter_map(|item| Some((items.element(item).ok()?, item)))
                .collect()
        };
        let (live, applied) = (index(live), index(applied));
        let mut single = HashMap::with_capacity(live.len());
        for (key, item) in &live {
            let first = Some(*item);
            single
                .entry(key.clone())
                .and_modify(|several| *several = None)
                .or_insert(first);
        }
        let keys = applied.iter().map(|(key, _)| key);
        let shared = keys.clone().filter(|key| single.contains_key(*key)).cloned();
        let (shared, capacity) = (shared.collect(), live.len().max(applied.len()));
        let applied_keys = keys.cloned().collect();
        Self {
            items,
            live,
            applied,
            single,
            applied_keys,
            shared,
            done: HashSet::new(),
            out: Vec::with_capacity(capacity),
        }
    }

    fn run(mut self) -> Vec<Value> {
        let (mut l, mut a) = (0, 0);
        let mut next_shared = self.shared.pop_front();
        while l < self.live.len() || a < self.applied.len() {
            if l < self.live.len() && a < self.applied.len() {
                let key = &self.live[l].0;
                if *key == self.applied[a].0 {
                    self.take_applied(a);
                    (l, a) = (l + 1, a + 1);
                    next_shared = self.shared.pop_front();
                    continue;
                }
                if self.is_applied(key) && next_shared.as_ref().is_some_and(|next| next != key) {
                    // Shared, but its turn comes later.
                    l += 1;
                    continue;
                }
            }
            if l < self.live.len() {
                let (key, item) = &self.live[l];
                if !self.is_applied(key) {
                    self.out.push((*item).clone());
                    l += 1;
                    continue;
                }
                if self.done.contains(key) {
                    l += 1;
                }
            }
            if a < self.applied.len() {
                self.take_applied(a);
                if next_shared.as_ref() == Some(&self.applied[a].0) {
                    next_shared = self.shared.pop_front();
                }
                a += 1;
            }
        }
        self.out
    }

    fn is_applied(&self, key: &Key) -> bool {
        self.applied_keys.contains(key)
    }

    /// Takes an applied item, merged with the live one unless the live list has several of it.
    fn take_applied(&mut self, at: usize) {
        let (key, applied) = &self.applied[at];
        let merged = match self.single.get(key).copied().flatten() {
            Some(live) => merge(self.items.item, live, applied),
            None => (*applied).clone(),
        };
        self.done.insert(key.clone());
        self.out.push(merged);
    }
}
