//! How endpoints are laid out in EndpointSlices: few slices, and few writes when something changes. Pure.
//!
//! An endpoint stays in the slice it is in. New ones fill slices that change anyway, then the fullest slice that takes
//! all of them, then new slices.
//!
//! Source: `k8s.io/endpointslice/reconciler.go`.

use std::collections::BTreeMap;

use cloudeck_machinery::Value;

/// Endpoints with the same ports and the same family.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) address_type: &'static str,
    pub(super) ports: Vec<Value>,
    pub(super) endpoints: Vec<Value>,
}

/// What a slice has besides endpoints and ports.
#[derive(Debug, Clone)]
pub(super) struct Dress {
    pub(super) labels: Value,
    /// Without those that say when something changed.
    pub(super) annotations: Value,
    /// What is written with every change and is no reason for one.
    pub(super) stamp: Option<(&'static str, String)>,
    /// For a new slice: everything but the above.
    pub(super) skeleton: Value,
    pub(super) capacity: usize,
}

/// The writes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Writes {
    pub(super) create: Vec<Value>,
    pub(super) update: Vec<Value>,
    pub(super) delete: Vec<Value>,
}

/// A slice as it will be.
struct Draft {
    tree: Value,
    endpoints: Vec<Value>,
    changed: bool,
}

pub(super) fn pack(groups: Vec<Group>, present: Vec<Value>, dress: &Dress) -> Writes {
    let mut by_kind: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for slice in present {
        let kind = kind_of(slice.str_at(&["addressType"]), slice.items_at(&["ports"]));
        by_kind.entry(kind).or_default().push(slice);
    }
    let mut writes = Writes::default();
    for group in groups {
        let kind = kind_of(Some(group.address_type), &group.ports);
        let slices = by_kind.remove(&kind).unwrap_or_default();
        pack_group(group, slices, dress, &mut writes);
    }
    writes.delete.extend(by_kind.into_values().flatten());
    writes
}

/// Slices of one kind hold the same family and ports. Written out, because ports have no order.
fn kind_of(address_type: Option<&str>, ports: &[Value]) -> String {
    let mut ports: Vec<String> = ports.iter().map(Value::to_string).collect();
    ports.sort_unstable();
    format!("{} {}", address_type.unwrap_or_default(), ports.join(" "))
}

/// Who an endpoint is, whatever its conditions.
fn identity(endpoint: &Value) -> (String, Option<String>) {
    let addresses: Vec<&str> = endpoint
        .items_at(&["addresses"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let target = endpoint.str_at(&["targetRef", "uid"]).map(str::to_owned);
    (addresses.join(" "), target)
}

fn pack_group(group: Group, slices: Vec<Value>, dress: &Dress, writes: &mut Writes) {
    let is_placeholder = group.endpoints.is_empty();
    let mut wanted: BTreeMap<_, Value> = group
        .endpoints
        .iter()
        .map(|endpoint| (identity(endpoint), endpoint.clone()))
        .collect();
    let mut drafts: Vec<Draft> = slices
        .into_iter()
        .map(|slice| keep(slice, &mut wanted, dress))
        .collect();
    let mut left: Vec<Value> = wanted.into_values().collect();
    for draft in drafts.iter_mut().filter(|draft| draft.changed) {
        let room = dress
            .capacity
            .saturating_sub(draft.endpoints.len())
            .min(left.len());
        draft.endpoints.extend(left.drain(..room));
    }
    while left.len() >= dress.capacity {
        let full = left.drain(..dress.capacity).collect();
        writes.create.push(new_slice(&group, full, dress));
    }
    if !left.is_empty() {
        match fullest_with_room(&mut drafts, left.len(), dress.capacity) {
            Some(draft) => {
                draft.endpoints.append(&mut left);
                draft.changed = true;
            }
            None => writes.create.push(new_slice(&group, left, dress)),
        }
    }
    if is_placeholder && drafts.is_empty() {
        writes.create.push(new_slice(&group, Vec::new(), dress));
    }
    finish(drafts, is_placeholder, dress, writes);
}

fn keep(slice: Value, wanted: &mut BTreeMap<(String, Option<String>), Value>, dress: &Dress) -> Draft {
    let before = slice.items_at(&["endpoints"]);
    let kept = before
        .iter()
        .filter_map(|endpoint| wanted.remove(&identity(endpoint)));
    let endpoints: Vec<Value> = kept.collect();
    Draft {
        changed: endpoints != before || !is_dressed(&slice, dress),
        tree: slice,
        endpoints,
    }
}

fn is_dressed(slice: &Value, dress: &Dress) -> bool {
    let mut annotations = slice
        .at(&["metadata", "annotations"])
        .cloned()
        .unwrap_or_else(Value::object);
    if let Some((key, _)) = &dress.stamp {
        annotations.remove_at(&[key]);
    }
    let labels = slice.at(&["metadata", "labels"]);
    labels == Some(&dress.labels) && annotations == dress.annotations
}

fn fullest_with_room(drafts: &mut [Draft], count: usize, capacity: usize) -> Option<&mut Draft> {
    let fitting = drafts
        .iter_mut()
        .filter(|draft| draft.endpoints.len() + count <= capacity);
    fitting.max_by_key(|draft| draft.endpoints.len())
}

fn finish(drafts: Vec<Draft>, keep_one_empty: bool, dress: &Dress, writes: &mut Writes) {
    let mut keep_empty = keep_one_empty;
    for mut draft in drafts {
        if draft.endpoints.is_empty() && !std::mem::take(&mut keep_empty) {
            writes.delete.push(draft.tree);
        } else if draft.changed {
            draft.tree.set_at(&["endpoints"], draft.endpoints);
            put_on(&mut draft.tree, dress);
            writes.update.push(draft.tree);
        }
    }
}

fn put_on(slice: &mut Value, dress: &Dress) {
    slice.set_at(&["metadata", "labels"], dress.labels.clone());
    let mut annotations = dress.annotations.clone();
    if let Some((key, text)) = &dress.stamp {
        annotations.set_at(&[key], text.as_str());
    }
    slice.set_at(&["metadata", "annotations"], annotations);
}

fn new_slice(group: &Group, endpoints: Vec<Value>, dress: &Dress) -> Value {
    let mut slice = dress.skeleton.clone();
    slice.set_at(&["addressType"], group.address_type);
    slice.set_at(&["ports"], group.ports.clone());
    slice.set_at(&["endpoints"], endpoints);
    put_on(&mut slice, dress);
    slice
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    fn dress() -> Dress {
        Dress {
            labels: value!({"kubernetes.io/service-name": "s"}),
            annotations: Value::object(),
            stamp: None,
            skeleton: value!({"kind": "EndpointSlice"}),
            capacity: 3,
        }
    }

    fn endpoint(address: &str, ready: bool) -> Value {
        value!({"addresses": [(address)], "conditions": {"ready": (ready)}, "targetRef": {"uid": (address)}})
    }

    fn group(addresses: &[&str]) -> Group {
        Group {
            address_type: "IPv4",
            ports: vec![value!({"port": 80})],
            endpoints: addresses.iter().map(|address| endpoint(address, true)).collect(),
        }
    }

    fn layout(slices: &[Value]) -> Vec<Vec<&str>> {
        slices
            .iter()
            .map(|slice| {
                let endpoints = slice.items_at(&["endpoints"]).iter();
                endpoints
                    .map(|it| it.items_at(&["addresses"])[0].as_str().unwrap())
                    .collect()
            })
            .collect()
    }

    fn made(addresses: &[&str]) -> Vec<Value> {
        pack(vec![group(addresses)], Vec::new(), &dress()).create
    }

    #[test]
    fn endpoints_are_cut_into_slices_of_the_capacity() {
        assert_eq!(
            layout(&made(&["a", "b", "c", "d"])),
            [vec!["a", "b", "c"], vec!["d"]]
        );
    }

    #[test]
    fn without_endpoints_there_is_one_empty_slice() {
        let empty = made(&[]);
        assert_eq!(layout(&empty), [Vec::<&str>::new()]);
        assert_eq!(pack(vec![group(&[])], empty, &dress()), Writes::default());
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let slices = made(&["a", "b", "c", "d"]);
        assert_eq!(
            pack(vec![group(&["d", "c", "b", "a"])], slices, &dress()),
            Writes::default()
        );
    }

    #[test]
    fn a_changed_condition_touches_its_slice_only() {
        let slices = made(&["a", "b", "c", "d"]);
        let mut group = group(&["a", "b", "c", "d"]);
        group.endpoints[3] = endpoint("d", false);
        let writes = pack(vec![group], slices, &dress());
        assert_eq!(layout(&writes.update), [vec!["d"]]);
        assert!(writes.create.is_empty() && writes.delete.is_empty());
    }

    #[test]
    fn a_new_endpoint_goes_where_there_is_room_and_a_lost_one_makes_room() {
        let slices = made(&["a", "b", "c", "d"]);
        let writes = pack(vec![group(&["a", "b", "c", "d", "e"])], slices.clone(), &dress());
        assert_eq!(layout(&writes.update), [vec!["d", "e"]]);
        let writes = pack(vec![group(&["b", "c", "d", "e"])], slices, &dress());
        assert_eq!(layout(&writes.update), [vec!["b", "c", "e"]]);
    }

    #[test]
    fn an_emptied_slice_goes() {
        let slices = made(&["a", "b", "c", "d"]);
        let writes = pack(vec![group(&["a", "b", "c"])], slices, &dress());
        assert_eq!(layout(&writes.delete), [vec!["d"]]);
        assert!(writes.update.is_empty());
    }

    #[test]
    fn slices_of_other_ports_are_replaced() {
        let slices = made(&["a"]);
        let mut other = group(&["a"]);
        other.ports = vec![value!({"port": 81})];
        let writes = pack(vec![other], slices, &dress());
        assert_eq!((writes.create.len(), writes.delete.len()), (1, 1));
    }

    #[test]
    fn changed_labels_are_put_on_without_moving_endpoints() {
        let slices = made(&["a"]);
        let mut dress = dress();
        dress.labels.set_at(&["more"], "x");
        let writes = pack(vec![group(&["a"])], slices, &dress);
        assert_eq!(
            writes.update[0].str_at(&["metadata", "labels", "more"]),
            Some("x")
        );
    }
}
