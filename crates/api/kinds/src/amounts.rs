//! Resource lists, and what a pod as a whole asks for.
//!
//! Source: `k8s.io/component-helpers/resource`. Not here: what a node says it has given (resizing in place), claims of
//! devices.

use std::collections::BTreeMap;

use cloudeck_machinery::{Map, Quantity, Value};
use compact_str::CompactString;

/// Amounts by the names of resources.
pub type Amounts = BTreeMap<CompactString, Quantity>;

/// Reads a list; what is no amount is validation's business and left out.
pub fn read(list: Option<&Value>) -> Amounts {
    let members = list.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    members
        .filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?)))
        .collect()
}

/// The list as objects hold it.
pub fn to_value(amounts: &Amounts) -> Value {
    let mut map = Map::new();
    for (name, amount) in amounts {
        map.insert(name.clone(), amount.to_string().into());
    }
    map.into()
}

/// Adds amount by amount.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        // Begun with the amount itself, so that the sum is written as it is.
        total
            .entry(name.clone())
            .and_modify(|sum| *sum = *sum + *amount)
            .or_insert(*amount);
    }
}

/// Takes the larger of both, amount by amount.
pub fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let most = total.entry(name.clone()).or_insert(*amount);
        *most = (*most).max(*amount);
    }
}

/// The `requests` or `limits` of a container.
pub fn of_container(container: &Value, list: &str) -> Amounts {
    read(container.at(&["resources", list]))
}

/// What a pod's containers take together of `requests` or `limits`: those that run at once, or an init container beside
/// the restartable ones before it where that is more.
pub fn of_containers(pod: &Value, list: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in pod.items_at(&["spec", "containers"]) {
        add(&mut total, &of_container(container, list));
    }
    let (mut beside, mut peak) = (Amounts::new(), Amounts::new());
    for container in pod.items_at(&["spec", "initContainers"]) {
        let own = of_container(container, list);
        let mut at_once = beside.clone();
        add(&mut at_once, &own);
        raise(&mut peak, &at_once);
        if container.str_at(&["restartPolicy"]) == Some("Always") {
            add(&mut total, &own);
            beside = at_once;
        }
    }
    raise(&mut total, &peak);
    total
}

/// As [`of_containers`], but what is said for the pod as a whole goes before. Without overhead.
pub fn of_pod(pod: &Value, list: &str) -> Amounts {
    let mut total = of_containers(pod, list);
    let own = read(pod.at(&["spec", "resources", list])).into_iter();
    total.extend(own.filter(|(name, _)| is_for_whole_pods(name)));
    total
}

/// As [`of_pod`], with the overhead of running it.
pub fn of_pod_with_overhead(pod: &Value, list: &str) -> Amounts {
    let mut total = of_pod(pod, list);
    let mut overhead = read(pod.at(&["spec", "overhead"]));
    if list == "limits" {
        // What is unlimited stays so.
        overhead.retain(|name, _| total.get(name).is_some_and(|limit| !limit.is_zero()));
    }
    add(&mut total, &overhead);
    total
}

/// Whether the resource may be asked for by a pod as a whole.
pub fn is_for_whole_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// Whether anything that a pod as a whole may ask for is named in its own requests or limits.
pub fn has_own(pod: &Value) -> bool {
    ["requests", "limits"].iter().any(|list| {
        let list = pod.at(&["spec", "resources", list]).and_then(Value::as_object);
        list.is_some_and(|list| list.keys().any(|name| is_for_whole_pods(name)))
    })
}

/// `hugepages-2Mi` and the like.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether the name is one of Kubernetes' own.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[track_caller]
    fn check(found: &Amounts, wanted: &[(&str, &str)]) {
        let found: Vec<_> = found
            .iter()
            .map(|(name, amount)| (name.as_str(), amount.to_string()))
            .collect();
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(name, amount)| (*name, (*amount).to_owned()))
            .collect();
        assert_eq!(found, wanted);
    }

    fn cpu(amount: &str) -> Value {
        value!({"resources": {"requests": {"cpu": (amount)}}})
    }

    #[test]
    fn init_containers_run_beside_the_restartable_ones_before_them() {
        let restartable = value!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        let pod = |init: Value| value!({"spec": {"containers": [(cpu("2")), (cpu("500m"))], "initContainers": (init)}});
        let of = |init| of_containers(&pod(init), "requests");
        check(&of(value!([])), &[("cpu", "2500m")]);
        check(&of(value!([(cpu("2"))])), &[("cpu", "2500m")]);
        check(&of(value!([(cpu("3"))])), &[("cpu", "3")]);
        check(&of(value!([(restartable.clone()), (cpu("3"))])), &[("cpu", "4")]);
        check(&of(value!([(cpu("3")), (restartable)])), &[("cpu", "3500m")]);
    }

    #[test]
    fn a_pod_may_speak_for_its_containers() {
        let own = value!({"requests": {"cpu": "1", "hugepages-2Mi": "2Mi", "example.com/gpu": "1"}});
        let pod = value!({"spec": {"containers": [(cpu("3"))], "resources": (own)}});
        check(
            &of_pod(&pod, "requests"),
            &[("cpu", "1"), ("hugepages-2Mi", "2Mi")],
        );
        assert!(has_own(&pod));
        assert!(!has_own(
            &value!({"spec": {"resources": {"limits": {"example.com/gpu": "1"}}}})
        ));
    }

    #[test]
    fn overhead_limits_nothing_that_is_unlimited() {
        let container =
            value!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "0"}}});
        let pod =
            value!({"spec": {"containers": [(container)], "overhead": {"cpu": "100m", "memory": "1Mi"}}});
        check(
            &of_pod_with_overhead(&pod, "requests"),
            &[("cpu", "1100m"), ("memory", "1Mi")],
        );
        check(
            &of_pod_with_overhead(&pod, "limits"),
            &[("cpu", "2100m"), ("memory", "0")],
        );
    }
}
