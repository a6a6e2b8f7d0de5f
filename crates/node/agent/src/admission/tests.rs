use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Container, NodeAffinity, NodeSelector, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

use super::*;

const CAPACITY: Capacity = Capacity {
    cpus: 2,
    memory_bytes: 1000,
    disk_bytes: 0,
    pods: 3,
};

fn container(cpu: &str, memory: &str) -> Container {
    let requests = BTreeMap::from([
        ("cpu".to_owned(), Written(cpu.to_owned())),
        ("memory".to_owned(), Written(memory.to_owned())),
    ]);
    Container {
        resources: Some(ResourceRequirements {
            requests: Some(requests),
            ..ResourceRequirements::default()
        }),
        ..Container::default()
    }
}

fn pod(uid: &str, cpu: &str, memory: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_owned());
    pod.spec = Some(PodSpec {
        containers: vec![container(cpu, memory)],
        ..PodSpec::default()
    });
    pod
}

fn said(admitted: &Admitted, pod: &Pod) -> Option<(&'static str, String)> {
    admitted.admit(pod, &CAPACITY).map(|r| (r.reason, r.message))
}

#[test]
fn a_pod_too_many_of_any_kind_is_refused_in_upstreams_words() {
    let admitted = Admitted::default();
    assert_eq!(said(&admitted, &pod("a", "1500m", "10")), None);
    let message = "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000";
    assert_eq!(
        said(&admitted, &pod("b", "600m", "10")),
        Some(("OutOfcpu", message.to_owned()))
    );
    assert_eq!(
        said(&admitted, &pod("b", "0", "991")).map(|r| r.0),
        Some("OutOfmemory")
    );
    assert_eq!(said(&admitted, &pod("b", "500m", "990")), None);
    assert_eq!(said(&admitted, &pod("c", "0", "0")), None);
    assert_eq!(
        said(&admitted, &pod("d", "0", "0")).map(|r| r.0),
        Some("OutOfpods")
    );
}

#[test]
fn what_has_ended_takes_no_room_and_nothing_counts_twice() {
    let admitted = Admitted::default();
    let first = pod("a", "2", "0");
    assert_eq!(said(&admitted, &first), None);
    assert_eq!(said(&admitted, &first), None);
    admitted.forget(&first);
    assert_eq!(said(&admitted, &pod("b", "2", "0")), None);
}

#[test]
fn init_containers_count_where_they_need_more() {
    let mut one = pod("a", "1", "0");
    let spec = one.spec.as_mut().unwrap();
    spec.init_containers = Some(vec![container("1800m", "0")]);
    assert_eq!(requests(one.spec.as_ref()).cpu_milli, 1800);
}

#[test]
fn selectors_and_required_affinity_both_must_match() {
    let label = |key: &str| (key == "disk").then(|| "ssd".to_owned());
    let mut spec = PodSpec {
        node_selector: Some(BTreeMap::from([("disk".to_owned(), "ssd".to_owned())])),
        ..PodSpec::default()
    };
    assert!(matches(&spec, "n", &label));
    let requirement = |key: &str, operator: &str, value: &str| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: Some(vec![value.to_owned()]),
    };
    let mut check = |labels, fields| {
        let term = NodeSelectorTerm {
            match_expressions: Some(labels),
            match_fields: Some(fields),
        };
        let required = NodeSelector {
            node_selector_terms: vec![term],
        };
        spec.affinity = Some(Affinity {
            node_affinity: Some(NodeAffinity {
                required_during_scheduling_ignored_during_execution: Some(required),
                ..NodeAffinity::default()
            }),
            ..Affinity::default()
        });
        matches(&spec, "n", &label)
    };
    assert!(check(
        vec![requirement("disk", "In", "ssd")],
        vec![requirement("metadata.name", "In", "n")]
    ));
    assert!(!check(vec![requirement("disk", "NotIn", "ssd")], vec![]));
    assert!(!check(vec![], vec![requirement("metadata.name", "In", "m")]));
    assert!(!check(vec![], vec![]));
}
