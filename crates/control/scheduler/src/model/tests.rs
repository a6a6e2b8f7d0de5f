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
    assert_eq!(found.requests["cpu"], 1010);
    assert_eq!(found.requests["memory"], 1 << 20);
}

#[test]
fn restartable_init_containers_count_beside_the_others() {
    let found = pod(r#"{"metadata":{"name":"p"},"spec":{
            "initContainers":[
                {"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"300m"}}},
                {"name":"i","resources":{"requests":{"cpu":"500m"}}}],
            "containers":[{"name":"a","resources":{"requests":{"cpu":"100m"}}}]}}"#);
    assert_eq!(found.requests["cpu"], 800);
}

#[test]
fn a_node_counts_its_pods_and_forgets_them() {
    let mut info = node("n", "{}");
    let before = info.clone();
    let one = pod(
        r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","ports":[{"containerPort":80,"hostPort":80}]}]}}"#,
    );
    info.add_pod(&one);
    assert_eq!((info.pods, info.scored_cpu), (1, 100));
    info.remove_pod(&one);
    assert_eq!(info, before);
}
