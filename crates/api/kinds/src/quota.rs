//! What quotas count, what an object uses of it, and which objects a quota is about.
//!
//! Source: `pkg/quota/v1/evaluator/core`. Not here: claims of devices.

mod scopes;

use cloudeck_machinery::quantity::{Format, Quantity};
use cloudeck_machinery::{MicroTime, Time, Value};
use compact_str::{CompactString, format_compact};

use crate::amounts::{self, Amounts};

pub use scopes::{Scopes, has_deadline};

const OF_PODS: [&str; 10] = [
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
const OF_SERVICES: [&str; 3] = ["services", "services.loadbalancers", "services.nodeports"];
const OF_CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
/// Kinds that quotas count under their bare names, too.
const BARE: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];
/// `<class>.storageclass.storage.k8s.io/requests.storage`
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Whether objects of the kind use the resource.
pub fn counts(group: &str, plural: &str, resource: &str) -> bool {
    if resource == count_name(group, plural) {
        return true;
    }
    match (group, plural) {
        ("", "pods") => OF_PODS.contains(&resource) || is_prefixed(resource),
        ("", "services") => OF_SERVICES.contains(&resource),
        ("", "persistentvolumeclaims") => {
            let of_class = resource.rsplit_once(BY_CLASS).map(|(_, claim)| claim);
            OF_CLAIMS.contains(&of_class.unwrap_or(resource))
        }
        ("", bare) => BARE.contains(&bare) && resource == bare,
        _ => false,
    }
}

/// Huge pages, and requests of what is not Kubernetes' own.
fn is_prefixed(resource: &str) -> bool {
    let asked = resource.strip_prefix("requests.");
    amounts::is_huge_page(asked.unwrap_or(resource)) || asked.is_some_and(|name| !amounts::is_native(name))
}

/// `count/deployments.apps`.
fn count_name(group: &str, plural: &str) -> CompactString {
    match group {
        "" => format_compact!("count/{plural}"),
        group => format_compact!("count/{plural}.{group}"),
    }
}

/// All that the object uses at `now`. A pod that is over, or should have been gone, is only counted as an object.
pub fn used_by(group: &str, plural: &str, object: &Value, now: MicroTime) -> Amounts {
    let mut used = Amounts::from([(count_name(group, plural), number(1))]);
    match (group, plural) {
        ("", "pods") if is_charged(object, now) => add_pod(&mut used, object),
        ("", "services") => add_service(&mut used, object),
        ("", "persistentvolumeclaims") => add_claim(&mut used, object),
        ("", bare) if BARE.contains(&bare) => drop(used.insert(bare.into(), number(1))),
        _ => {}
    }
    used
}

fn number(count: usize) -> Quantity {
    Quantity::from_value(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

fn is_charged(pod: &Value, now: MicroTime) -> bool {
    let finished = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
    !finished && overdue(pod).is_none_or(|at| now <= at)
}

/// When a pod that is being deleted should be gone at the latest: after that it is charged no longer.
pub fn overdue(pod: &Value) -> Option<MicroTime> {
    let at = Time::parse(pod.str_at(&["metadata", "deletionTimestamp"])?).ok()?;
    let grace = pod.int_at(&["metadata", "deletionGracePeriodSeconds"])?;
    let seconds = at.unix().saturating_add(grace);
    Some(MicroTime::from_unix_micros(seconds.saturating_mul(1_000_000)))
}

fn add_pod(used: &mut Amounts, pod: &Value) {
    let [requests, limits] = ["requests", "limits"].map(|list| amounts::of_pod_with_overhead(pod, list));
    used.insert("pods".into(), number(1));
    used.extend(named(&requests, &limits));
}

/// What a container uses under the names that quotas have for it.
pub fn used_by_container(container: &Value) -> Amounts {
    let [requests, limits] = ["requests", "limits"].map(|list| amounts::of_container(container, list));
    named(&requests, &limits)
}

/// Requests and limits under the names that quotas have for them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let is_computed = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage");
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let has_both_names = is_computed(name) || amounts::is_huge_page(name);
        if has_both_names {
            used.insert(name.clone(), *amount);
        }
        if has_both_names || !amounts::is_native(name) {
            used.insert(format_compact!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| is_computed(name)) {
        used.insert(format_compact!("limits.{name}"), *amount);
    }
    used
}

fn add_service(used: &mut Amounts, service: &Value) {
    let ports = service.items_at(&["spec", "ports"]);
    let allocates = service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false);
    let given = |port: &&Value| port.int_at(&["nodePort"]).unwrap_or(0) != 0;
    let (balancers, node_ports) = match service.str_at(&["spec", "type"]) {
        Some("NodePort") => (0, ports.len()),
        Some("LoadBalancer") if allocates => (1, ports.len()),
        Some("LoadBalancer") => (1, ports.iter().filter(given).count()),
        _ => (0, 0),
    };
    used.insert("services".into(), number(1));
    used.insert("services.loadbalancers".into(), number(balancers));
    used.insert("services.nodeports".into(), number(node_ports));
}

fn add_claim(used: &mut Amounts, claim: &Value) {
    let class = claim
        .str_at(&["metadata", "annotations", OLD_CLASS])
        .or_else(|| claim.str_at(&["spec", "storageClassName"]))
        .filter(|class| !class.is_empty());
    let amount = |path: &[&str]| -> Option<Quantity> { claim.str_at(path)?.parse().ok() };
    let asked = amount(&["spec", "resources", "requests", "storage"]);
    let given = amount(&["status", "allocatedResources", "storage"]);
    let storage = asked.map(|asked| given.map_or(asked, |given| given.max(asked)));
    let both = [
        ("persistentvolumeclaims", Some(number(1))),
        ("requests.storage", storage),
    ];
    for (name, amount) in both {
        let Some(amount) = amount else { continue };
        used.insert(name.into(), amount);
        if let Some(class) = class {
            used.insert(format_compact!("{class}{BY_CLASS}{name}"), amount);
        }
    }
}

#[cfg(test)]
mod tests;
