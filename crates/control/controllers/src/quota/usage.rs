//! What an object uses of what quotas limit. Pure.
//!
//! Source: `pkg/quota/v1/evaluator/core`. Not here: claims for devices.

use std::collections::BTreeMap;

use cloudeck_machinery::quantity::{Format, Quantity};
use cloudeck_machinery::{Map, Time, Value};
use cloudeck_schema::ResourceInfo;
use compact_str::{CompactString, format_compact};

use crate::clock::Now;
use crate::everything::Everything;

pub(super) type Amounts = BTreeMap<CompactString, Quantity>;

/// Kinds whose number may be limited by their bare name.
const BARE: [&str; 4] = [
    "configmaps",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
];
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
/// `<class>.storageclass.storage.k8s.io/requests.storage`
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

/// A quota's limits, and which objects they are about.
pub(super) struct Limits {
    pub(super) hard: Amounts,
    /// Name, operator, values.
    scopes: Vec<(CompactString, CompactString, Vec<CompactString>)>,
    /// What the status says is used.
    before: Amounts,
}

impl Limits {
    pub(super) fn read(quota: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(CompactString::from);
        let named = quota.items_at(&["spec", "scopes"]).iter().filter_map(text);
        let mut scopes: Vec<_> = named.map(|name| (name, "Exists".into(), Vec::new())).collect();
        for expression in quota.items_at(&["spec", "scopeSelector", "matchExpressions"]) {
            let field = |name| expression.str_at(&[name]).unwrap_or_default().into();
            let values = expression.items_at(&["values"]).iter().filter_map(text);
            scopes.push((field("scopeName"), field("operator"), values.collect()));
        }
        Self {
            hard: amounts(quota.at(&["spec", "hard"])),
            before: amounts(quota.at(&["status", "used"])),
            scopes,
        }
    }

    /// Zero of everything that is counted. What nobody counts stays as it was said before.
    pub(super) fn unused(&self, everything: &Everything) -> Amounts {
        let is_counted = |name: &str| {
            let mut kinds = everything.informers().map(|(info, _)| *info);
            kinds.any(|info| info.namespaced && counts(info, name))
        };
        let names = self.hard.keys();
        names
            .filter_map(|name| {
                let start = if is_counted(name) {
                    Some(Quantity::ZERO)
                } else {
                    self.before.get(name).copied()
                };
                Some((name.clone(), start?))
            })
            .collect()
    }

    /// Whether objects of the kind use anything that is limited.
    pub(super) fn concern(&self, info: &ResourceInfo) -> bool {
        self.hard.keys().any(|name| counts(info, name))
    }

    /// Whether the object is in all scopes. Only pods are ever in one.
    pub(super) fn are_about(&self, info: &ResourceInfo, object: &Value) -> bool {
        let mut scopes = self.scopes.iter();
        scopes.all(|(name, operator, values)| {
            is(info, "", "pods") && is_in_scope(object, name, operator, values)
        })
    }
}

fn is(info: &ResourceInfo, group: &str, plural: &str) -> bool {
    info.group == group && info.plural == plural
}

/// Whether the kind has anything to do with the limit.
fn counts(info: &ResourceInfo, name: &str) -> bool {
    if name == count_name(info) {
        return true;
    }
    if !info.group.is_empty() {
        return false;
    }
    match info.plural {
        "pods" => {
            let extended = |name: &str| name.contains('/') && !name.contains("kubernetes.io/");
            OF_PODS.contains(&name)
                || name.starts_with("hugepages-")
                || name
                    .strip_prefix("requests.")
                    .is_some_and(|rest| rest.starts_with("hugepages-") || extended(rest))
        }
        "services" => OF_SERVICES.contains(&name),
        "persistentvolumeclaims" => {
            OF_CLAIMS.contains(&name)
                || name
                    .rsplit_once(BY_CLASS)
                    .is_some_and(|(_, rest)| OF_CLAIMS.contains(&rest))
        }
        plural => BARE.contains(&plural) && name == plural,
    }
}

fn count_name(info: &ResourceInfo) -> CompactString {
    match info.group {
        "" => format_compact!("count/{}", info.plural),
        group => format_compact!("count/{}.{group}", info.plural),
    }
}

/// Whether changes of an object may change what it uses.
pub(super) fn has_more_than_a_count(info: &ResourceInfo) -> bool {
    info.group.is_empty() && matches!(info.plural, "pods" | "services" | "persistentvolumeclaims")
}

/// All that the object uses.
pub(super) fn of(info: &ResourceInfo, object: &Value, now: Now) -> Amounts {
    let mut used = Amounts::from([(count_name(info), one())]);
    if info.group.is_empty() {
        match info.plural {
            "pods" if is_charged(info, object, now) => add_pod(&mut used, object),
            "services" => add_service(&mut used, object),
            "persistentvolumeclaims" => add_claim(&mut used, object),
            plural if BARE.contains(&plural) => drop(used.insert(plural.into(), one())),
            _ => {}
        }
    }
    used
}

fn one() -> Quantity {
    number(1)
}

fn number(count: usize) -> Quantity {
    Quantity::from_value(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// A list of amounts as objects hold it; what is not an amount is left out.
pub(super) fn amounts(list: Option<&Value>) -> Amounts {
    let members = list.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    members
        .filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?)))
        .collect()
}

/// Finished pods use nothing, and neither do those that should have been gone.
fn is_charged(info: &ResourceInfo, pod: &Value, now: Now) -> bool {
    let finished = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
    !finished && overdue(info, pod).is_none_or(|at| now <= at)
}

/// When a pod that is being deleted should be gone at the latest.
pub(super) fn overdue(info: &ResourceInfo, pod: &Value) -> Option<Now> {
    if !is(info, "", "pods") {
        return None;
    }
    let at = Time::parse(pod.str_at(&["metadata", "deletionTimestamp"])?).ok()?;
    let grace = pod.int_at(&["metadata", "deletionGracePeriodSeconds"])?;
    Some(Now(Now::at(at).0.saturating_add(grace.saturating_mul(1000))))
}

fn add_pod(used: &mut Amounts, pod: &Value) {
    used.insert("pods".into(), one());
    for (name, amount) in of_pod(pod, "requests") {
        let is_extended = name.contains('/') && !name.contains("kubernetes.io/");
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {}
            _ if name.starts_with("hugepages-") || is_extended => {}
            _ => continue,
        }
        used.insert(format_compact!("requests.{name}"), amount);
        if !is_extended {
            used.insert(name, amount);
        }
    }
    for (name, amount) in of_pod(pod, "limits") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            used.insert(format_compact!("limits.{name}"), amount);
        }
    }
}

/// The requests or limits of a pod: the sum of its containers, or the largest init container where that is more;
/// restartable ones count with everything after them; what is said for the pod as a whole goes before; overhead on top.
fn of_pod(pod: &Value, what: &str) -> Amounts {
    let own = |container: &Value| amounts(container.at(&["resources", what]));
    let mut total = Amounts::new();
    for container in pod.items_at(&["spec", "containers"]) {
        combine(&mut total, &own(container), |a, b| a + b);
    }
    let (mut restartable, mut peak) = (Amounts::new(), Amounts::new());
    for container in pod.items_at(&["spec", "initContainers"]) {
        let mut moment = restartable.clone();
        combine(&mut moment, &own(container), |a, b| a + b);
        combine(&mut peak, &moment, |a, b| if b > a { b } else { a });
        if container.str_at(&["restartPolicy"]) == Some("Always") {
            combine(&mut total, &own(container), |a, b| a + b);
            combine(&mut restartable, &own(container), |a, b| a + b);
        }
    }
    combine(&mut total, &peak, |a, b| if b > a { b } else { a });
    total.extend(amounts(pod.at(&["spec", "resources", what])));
    for (name, amount) in amounts(pod.at(&["spec", "overhead"])) {
        match total.get_mut(&name) {
            Some(sum) => *sum = *sum + amount,
            // Nothing limits what is not limited without it.
            None if what == "limits" => {}
            None => drop(total.insert(name, amount)),
        }
    }
    total
}

fn combine(total: &mut Amounts, other: &Amounts, with: impl Fn(Quantity, Quantity) -> Quantity) {
    for (name, amount) in other {
        total
            .entry(name.clone())
            .and_modify(|sum| *sum = with(*sum, *amount))
            .or_insert(*amount);
    }
}

fn add_service(used: &mut Amounts, service: &Value) {
    let ports = service.items_at(&["spec", "ports"]);
    let allocated = || {
        let fixed = ports
            .iter()
            .filter(|port| port.int_at(&["nodePort"]).is_some_and(|port| port != 0));
        match service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) {
            Some(false) => fixed.count(),
            _ => ports.len(),
        }
    };
    let (balancers, node_ports) = match service.str_at(&["spec", "type"]) {
        Some("NodePort") => (0, ports.len()),
        Some("LoadBalancer") => (1, allocated()),
        _ => (0, 0),
    };
    used.insert("services".into(), one());
    used.insert("services.loadbalancers".into(), number(balancers));
    used.insert("services.nodeports".into(), number(node_ports));
}

fn add_claim(used: &mut Amounts, claim: &Value) {
    let annotations = [
        "metadata",
        "annotations",
        "volume.beta.kubernetes.io/storage-class",
    ];
    let class = claim
        .str_at(&annotations)
        .or_else(|| claim.str_at(&["spec", "storageClassName"]))
        .filter(|class| !class.is_empty());
    let storage = |path: &[&str]| {
        claim
            .str_at(path)
            .and_then(|amount| amount.parse::<Quantity>().ok())
    };
    let asked = storage(&["spec", "resources", "requests", "storage"]);
    let given = storage(&["status", "allocatedResources", "storage"]);
    let storage = asked.map(|asked| given.filter(|given| *given > asked).unwrap_or(asked));
    let both = [
        ("persistentvolumeclaims", Some(one())),
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

fn is_in_scope(pod: &Value, name: &str, operator: &str, values: &[CompactString]) -> bool {
    match name {
        "Terminating" => has_deadline(pod),
        "NotTerminating" => !has_deadline(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "CrossNamespacePodAffinity" => reaches_elsewhere(pod),
        "PriorityClass" => {
            let class = pod
                .str_at(&["spec", "priorityClassName"])
                .filter(|class| !class.is_empty());
            let listed = class.is_some_and(|class| values.iter().any(|value| value == class));
            match operator {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                _ => false,
            }
        }
        _ => false,
    }
}

/// Whether a pod may have come into a scope or left one.
pub(super) fn is_scoped_otherwise(info: &ResourceInfo, old: &Value, new: &Value) -> bool {
    is(info, "", "pods") && has_deadline(old) != has_deadline(new)
}

fn has_deadline(pod: &Value) -> bool {
    pod.int_at(&["spec", "activeDeadlineSeconds"])
        .is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    if let Some(class) = pod.str_at(&["status", "qosClass"]) {
        return class == "BestEffort";
    }
    let asks = |what| {
        let asked = of_pod(pod, what);
        asked.contains_key("cpu") || asked.contains_key("memory")
    };
    !asks("requests") && !asks("limits")
}

/// Whether a term of affinity names or selects namespaces.
fn reaches_elsewhere(pod: &Value) -> bool {
    let reaches = |term: &Value| {
        !term.items_at(&["namespaces"]).is_empty() || term.at(&["namespaceSelector"]).is_some()
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |when| pod.items_at(&["spec", "affinity", kind, when]).iter();
        terms("requiredDuringSchedulingIgnoredDuringExecution").any(reaches)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .filter_map(|wish| wish.at(&["podAffinityTerm"]))
                .any(reaches)
    })
}

#[cfg(test)]
mod tests;
