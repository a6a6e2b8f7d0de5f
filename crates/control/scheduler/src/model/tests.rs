use cloudeck_machinery::{Value, json};

use super::*;

pub(crate) fn object(tree: &Value) -> Object {
    Object::from_parts(json::to_vec(tree).into(), tree, Box::default())
}

pub(crate) fn pod(text: &str) -> PodInfo {
    PodInfo::read(&object(&json::parse(text.as_bytes()).unwrap())).unwrap()
}

pub(crate) fn node(name: &str, text: &str) -> NodeInfo {
    let mut tree = json::parse(text.as_bytes()).unwrap();
    tree.set_at(&["metadata", "name"], name);
    if tree.at(&["status"]).is_none() {
        let status = json::parse(br#"{"allocatable":{"cpu":"2","memory":"4Gi","pods":"10"}}"#).unwrap();
        tree.set_at(&["status"], status);
    }
    let mut info = NodeInfo::default();
    info.update(&object(&tree)).unwrap();
    info
}

#[test]
fn requests_sum_containers_and_take_the_largest_init_container() {
    let found = pod(r#"{"metadata":{"name":"p"},"spec":{
            "initContainers":[{"name":"i","resources":{"requests":{"cpu":"1"}}}],
            "containers":[
                {"name":"a","resources":{"requests":{"cpu":"100m","memory":"1Mi"}}},
                {"name":"b","resources":{"limits":{"cpu":"200m"}}}],
            "overhead":{"cpu":"10m"}}}"#);
    assert_eq!(found.requests.milli_cpu, 1010);
    assert_eq!(found.requests.memory, 1 << 20);
}

#[test]
fn restartable_init_containers_count_beside_the_others() {
    let found = pod(r#"{"metadata":{"name":"p"},"spec":{
            "initContainers":[
                {"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"300m"}}},
                {"name":"i","resources":{"requests":{"cpu":"500m"}}}],
            "containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}]}}"#);
    assert_eq!(found.requests.milli_cpu, 800);
}

#[test]
fn what_a_pod_asks_for_as_a_whole_goes_before_its_containers() {
    let found = pod(
        r#"{"metadata":{"name":"p"},"spec":{"resources":{"requests":{"cpu":"1"}},
            "containers":[{"name":"a","resources":{"requests":{"cpu":"100m","memory":"1Mi","example.com/gpu":"2"}}}]}}"#,
    );
    assert_eq!((found.requests.milli_cpu, found.requests.memory), (1000, 1 << 20));
    assert_eq!(found.requests.other("example.com/gpu"), 2);
}

#[test]
fn a_node_counts_its_pods_and_forgets_them() {
    let mut info = node("n", "{}");
    let before = info.clone();
    let one = pod(
        r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"hostPort":80}],
            "resources":{"requests":{"example.com/gpu":"2"}}}]}}"#,
    );
    info.add_pod(&one.clone().into());
    assert_eq!((info.pods.len(), info.scored_cpu), (1, 100));
    info.remove_pod(&one.uid);
    assert_eq!(info, before);
}

#[test]
fn terms_mean_the_pods_own_namespace_unless_they_name_others() {
    let terms = |more: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"p","namespace":"own"}},"spec":{{"containers":[],"affinity":{{"podAntiAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":[
                {{"topologyKey":"zone","labelSelector":{{"matchLabels":{{"a":"b"}}}}{more}}}]}}}}}}}}"#
        );
        pod(&text).terms.unwrap().apart[0].clone()
    };
    let (own, other) = (terms(""), terms(r#","namespaces":["x"]"#));
    assert!(own.namespaces.contains("own") && own.namespace_selector.is_nothing());
    assert!(other.namespaces.contains("x") && other.namespaces.len() == 1);
    let all = terms(r#","namespaceSelector":{}"#);
    assert!(all.namespaces.is_empty() && all.namespace_selector.is_everything());
}

#[test]
fn match_label_keys_that_the_server_has_not_resolved_are_resolved_here() {
    let text = r#"{"metadata":{"name":"p","labels":{"hash":"1"}},"spec":{"containers":[],"topologySpreadConstraints":[
        {"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"a":"b"}},"matchLabelKeys":["hash","absent"]}]}}"#;
    assert_eq!(pod(text).spread[0].selector.to_string(), "a in (b),hash in (1)");
}
