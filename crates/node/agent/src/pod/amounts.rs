//! What a pod as a whole asks for and may use: sums over its containers. Pure.
//!
//! Source: `component-helpers/resource/helpers.go` (`PodRequests`, `PodLimits`), `pkg/kubelet/cm/helpers_linux.go`.

use std::collections::BTreeMap;

use cloudeck_machinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::decide::{all_containers, is_restartable};

/// Amounts by the names of resources.
pub type Amounts = BTreeMap<String, Quantity>;

/// The containers together, or the neediest moment of the pod's initialisation; what the pod says for itself stands
/// above that; and the pod's overhead.
pub fn requests(spec: &PodSpec) -> Amounts {
    let of = |container: &Container| read(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
    let mut total = over_time(spec, of);
    total.extend(read(spec.resources.as_ref().and_then(|r| r.requests.as_ref())));
    add(&mut total, &read(spec.overhead.as_ref()));
    total
}

/// As [`requests`]; only what every container has a limit of, or the pod itself, is limited.
pub fn limits(spec: &PodSpec) -> Amounts {
    let own = |resources: Option<&ResourceRequirements>| read(resources.and_then(|r| r.limits.as_ref()));
    let of = |container: &Container| own(container.resources.as_ref());
    let mut total = over_time(spec, of);
    total.retain(|name, _| {
        all_containers(spec).all(|container| of(container).get(name).is_some_and(|limit| !limit.is_zero()))
    });
    total.extend(own(spec.resources.as_ref()));
    let mut overhead = read(spec.overhead.as_ref());
    overhead.retain(|name, _| total.contains_key(name));
    add(&mut total, &overhead);
    total
}

/// In the words of the API; `None` when there is nothing.
pub fn written(amounts: &Amounts) -> Option<BTreeMap<String, Written>> {
    let written = amounts
        .iter()
        .map(|(name, amount)| (name.clone(), Written(amount.to_string())));
    (!amounts.is_empty()).then(|| written.collect())
}

fn over_time(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::new();
    for container in &spec.containers {
        add(&mut running, &of(container));
    }
    let (mut sidecars, mut neediest) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let mut moment = of(container);
        if is_restartable(container) {
            add(&mut running, &moment);
            add(&mut sidecars, &moment);
            moment.clone_from(&sidecars);
        } else {
            add(&mut moment, &sidecars);
        }
        raise(&mut neediest, moment);
    }
    raise(&mut running, neediest);
    running
}

fn read(written: Option<&BTreeMap<String, Written>>) -> Amounts {
    let pairs = written.into_iter().flatten();
    pairs
        .filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?)))
        .collect()
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        total
            .entry(name.clone())
            .and_modify(|sum| *sum = *sum + *amount)
            .or_insert(*amount);
    }
}

fn raise(total: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        total
            .entry(name)
            .and_modify(|most| *most = (*most).max(amount))
            .or_insert(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &serde_json::Value) -> PodSpec {
        serde_json::from_value(json.clone()).unwrap()
    }

    fn container(name: &str, kind: &str, cpu: &str) -> serde_json::Value {
        serde_json::json!({"name": name, "resources": {kind: {"cpu": cpu}}})
    }

    fn cpu(amounts: &Amounts) -> Option<String> {
        amounts.get("cpu").map(ToString::to_string)
    }

    #[test]
    fn the_neediest_moment_counts_and_sidecars_stay() {
        let mut side = container("s", "requests", "100m");
        side["restartPolicy"] = "Always".into();
        let pod = |init: &str| {
            spec(&serde_json::json!({
                "initContainers": [side.clone(), container("i", "requests", init)],
                "containers": [container("a", "requests", "200m"), container("b", "requests", "300m")],
                "overhead": {"cpu": "1m"}
            }))
        };
        assert_eq!(cpu(&requests(&pod("50m"))).as_deref(), Some("601m"));
        assert_eq!(cpu(&requests(&pod("1"))).as_deref(), Some("1101m"));
    }

    #[test]
    fn one_container_without_a_limit_leaves_the_pod_without() {
        let mut pod = serde_json::json!({
            "initContainers": [container("i", "limits", "1")],
            "containers": [container("a", "limits", "200m"), container("b", "limits", "300m")]
        });
        assert_eq!(cpu(&limits(&spec(&pod))).as_deref(), Some("1"));
        pod["initContainers"] = serde_json::json!([{"name": "i"}]);
        assert_eq!(cpu(&limits(&spec(&pod))), None);
        pod["resources"] = serde_json::json!({"limits": {"cpu": "2"}});
        assert_eq!(cpu(&limits(&spec(&pod))).as_deref(), Some("2"));
    }
}
