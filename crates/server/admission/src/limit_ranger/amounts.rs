//! Requests and limits of containers and of whole pods.

use std::collections::BTreeMap;

use cloudeck_machinery::{Map, Quantity, Value};

/// Amounts by resource name.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Reads a resource list; what does not parse is validation's business and is left out.
pub(crate) fn read_amounts(list: Option<&Value>) -> Amounts {
    let entries = list.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    entries
        .filter_map(|(name, amount)| Some((name.to_string(), amount.as_str()?.parse().ok()?)))
        .collect()
}

/// What a pod needs in all; `field` is `requests` or `limits`. Init containers run one after another, those that restart
/// always beside all that follows.
pub(crate) fn pod_amounts(pod: &Value, field: &str) -> Amounts {
    let of = |container: &Value| read_amounts(container.at(&["resources", field]));
    let mut total = Amounts::new();
    for container in pod.items_at(&["spec", "containers"]) {
        add(&mut total, &of(container));
    }
    let (mut beside, mut highest) = (Amounts::new(), Amounts::new());
    for container in pod.items_at(&["spec", "initContainers"]) {
        let mut needed = of(container);
        if container.str_at(&["restartPolicy"]) == Some("Always") {
            add(&mut total, &needed);
            add(&mut beside, &needed);
            needed.clone_from(&beside);
        } else {
            add(&mut needed, &beside);
        }
        raise(&mut highest, &needed);
    }
    raise(&mut total, &highest);
    for (name, amount) in read_amounts(pod.at(&["spec", "resources", field])) {
        if name == "cpu" || name == "memory" {
            total.insert(name, amount);
        }
    }
    total
}

pub(crate) fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = total.entry(name.clone()).or_insert(Quantity::ZERO);
        // The sum of nothing and an amount is written like the amount.
        *entry = if entry.is_zero() {
            *amount
        } else {
            *entry + *amount
        };
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = total.entry(name.clone()).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}
