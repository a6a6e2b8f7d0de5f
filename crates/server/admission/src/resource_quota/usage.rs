//! How much of which resource an object uses.

use std::collections::{BTreeMap, BTreeSet};

use cloudeck_machinery::quantity::Format;
use cloudeck_machinery::{Quantity, Value};

use crate::limit_ranger::amounts::{Amounts, add, pod_amounts, read_amounts};

const POD: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
const SERVICE: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];
const CLAIM: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// What each container must ask for where a quota bounds it.
const REQUIRED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
/// Kinds that quotas count under their own names, too.
const BY_NAME: [&str; 4] = [
    "configmaps",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
];
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// `count/deployments.apps`.
fn count_name(group: &str, plural: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("count/{plural}{dot}{group}")
}

/// Whether objects of the kind use the resource.
pub(super) fn is_of(group: &str, plural: &str, resource: &str) -> bool {
    if resource == count_name(group, plural) {
        return true;
    }
    match (group, plural) {
        ("", "pods") => POD.contains(&resource) || is_prefixed(resource),
        ("", "services") => SERVICE.contains(&resource),
        ("", "persistentvolumeclaims") => {
            let of_class = |claim: &str| resource.ends_with(&format!("{OF_CLASS}{claim}"));
            CLAIM.contains(&resource) || CLAIM.iter().any(|claim| of_class(claim))
        }
        ("", other) => BY_NAME.contains(&other) && resource == other,
        _ => false,
    }
}

/// Huge pages, and what is not Kubernetes' own.
fn is_prefixed(resource: &str) -> bool {
    let asked = resource.strip_prefix("requests.");
    let name = asked.unwrap_or(resource);
    let foreign = name.contains('/') && !name.contains("kubernetes.io/");
    name.starts_with("hugepages-") || asked.is_some() && foreign
}

fn count(number: usize) -> Quantity {
    Quantity::from_value(number as i64, Format::DecimalSi)
}

/// What the object uses.
pub(super) fn of(group: &str, plural: &str, object: &Value) -> Amounts {
    let mut used = Amounts::from([(count_name(group, plural), count(1))]);
    match (group, plural) {
        ("", "pods") => pod(object, &mut used),
        ("", "services") => service(object, &mut used),
        ("", "persistentvolumeclaims") => claim(object, &mut used),
        ("", other) if BY_NAME.contains(&other) => {
            used.insert(other.to_owned(), count(1));
        }
        _ => {}
    }
    used
}

fn pod(pod: &Value, used: &mut Amounts) {
    if matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed")) {
        return;
    }
    let (mut requests, mut limits) = (pod_amounts(pod, "requests"), pod_amounts(pod, "limits"));
    let overhead = read_amounts(pod.at(&["spec", "overhead"]));
    add(&mut requests, &overhead);
    // What is unbounded stays so.
    let bounded: Amounts = overhead
        .into_iter()
        .filter(|(resource, _)| limits.contains_key(resource))
        .collect();
    add(&mut limits, &bounded);
    used.insert("pods".to_owned(), count(1));
    used.extend(computed(&requests, &limits));
}

/// Requests and limits under the names that quotas have for them.
fn computed(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (resource, amount) in requests {
        let counted = matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if counted || resource.starts_with("hugepages-") {
            used.insert(resource.clone(), *amount);
        }
        if counted || is_prefixed(&format!("requests.{resource}")) {
            used.insert(format!("requests.{resource}"), *amount);
        }
    }
    for (resource, amount) in limits {
        if matches!(resource.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format!("limits.{resource}"), *amount);
        }
    }
    used
}

/// What containers do not ask for although a quota bounds it: `cpu for: a,b; memory for: b`.
pub(super) fn missing(pod: &Value, bounded: &[&str]) -> Option<String> {
    let whole = |field: &str| !read_amounts(pod.at(&["spec", "resources", field])).is_empty();
    if whole("requests") || whole("limits") {
        return None;
    }
    let required: Vec<&str> = REQUIRED
        .into_iter()
        .filter(|resource| bounded.contains(resource))
        .collect();
    let mut lacking: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let containers = ["containers", "initContainers"].map(|list| pod.items_at(&["spec", list]));
    for container in containers.into_iter().flatten() {
        let of = |field| read_amounts(container.at(&["resources", field]));
        let used = computed(&of("requests"), &of("limits"));
        let name = container.str_at(&["name"]).unwrap_or_default();
        for resource in required.iter().filter(|resource| !used.contains_key(**resource)) {
            lacking.entry(resource).or_default().insert(name);
        }
    }
    if lacking.is_empty() {
        return None;
    }
    let parts: Vec<String> = lacking
        .into_iter()
        .map(|(resource, names)| {
            let names: Vec<&str> = names.into_iter().collect();
            format!("{resource} for: {}", names.join(","))
        })
        .collect();
    Some(parts.join("; "))
}

fn service(service: &Value, used: &mut Amounts) {
    let ports = service.items_at(&["spec", "ports"]);
    let kind = service.str_at(&["spec", "type"]).unwrap_or_default();
    let balanced = kind == "LoadBalancer";
    let node_ports = match kind {
        "LoadBalancer" if service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) == Some(false) => {
            let given = |port: &&Value| port.int_at(&["nodePort"]).unwrap_or(0) != 0;
            ports.iter().filter(given).count()
        }
        "LoadBalancer" | "NodePort" => ports.len(),
        _ => 0,
    };
    used.insert("services".to_owned(), count(1));
    used.insert("services.nodeports".to_owned(), count(node_ports));
    used.insert("services.loadbalancers".to_owned(), count(usize::from(balanced)));
}

fn claim(claim: &Value, used: &mut Amounts) {
    let class = claim
        .str_at(&["metadata", "annotations", OLD_CLASS])
        .or_else(|| claim.str_at(&["spec", "storageClassName"]))
        .filter(|class| !class.is_empty());
    let amount = |path: &[&str]| -> Option<Quantity> { claim.str_at(path)?.parse().ok() };
    let asked = amount(&["spec", "resources", "requests", "storage"]);
    let given = amount(&["status", "allocatedResources", "storage"]);
    let storage = asked.map(|asked| given.map_or(asked, |given| given.max(asked)));
    let mut insert = |resource: &str, amount: Quantity| {
        used.insert(resource.to_owned(), amount);
        if let Some(class) = class {
            used.insert(format!("{class}{OF_CLASS}{resource}"), amount);
        }
    };
    insert("persistentvolumeclaims", count(1));
    if let Some(storage) = storage {
        insert("requests.storage", storage);
    }
}
