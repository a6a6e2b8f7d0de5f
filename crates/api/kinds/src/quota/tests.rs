use cloudeck_machinery::json;

use super::*;

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

const EPOCH: MicroTime = MicroTime::from_unix_micros(0);

#[track_caller]
fn check(plural: &str, object: &str, wanted: &[(&str, &str)]) {
    let used = used_by("", plural, &tree(object), EPOCH);
    let found: Vec<(String, String)> = used
        .iter()
        .map(|(name, amount)| (name.to_string(), amount.to_string()))
        .collect();
    let mut wanted: Vec<(String, String)> = wanted
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), (*amount).to_owned()))
        .collect();
    wanted.sort();
    assert_eq!(found, wanted);
}

const POD: &str = r#"{"spec":{
    "initContainers":[{"name":"i","resources":{"requests":{"cpu":"1"}}}],
    "containers":[
        {"name":"a","resources":{"requests":{"cpu":"300m","memory":"1Gi","example.com/gpu":"1"},"limits":{"cpu":"2"}}},
        {"name":"b","resources":{"requests":{"memory":"1Gi"}}}]},"status":{"phase":"PHASE"}}"#;

#[test]
fn a_pod_uses_what_it_requests_and_is_limited_to() {
    check(
        "pods",
        POD,
        &[
            ("count/pods", "1"),
            ("pods", "1"),
            ("cpu", "1"),
            ("requests.cpu", "1"),
            ("memory", "2Gi"),
            ("requests.memory", "2Gi"),
            ("limits.cpu", "2"),
            ("requests.example.com/gpu", "1"),
        ],
    );
}

#[test]
fn a_finished_pod_only_counts_as_an_object() {
    check("pods", &POD.replace("PHASE", "Failed"), &[("count/pods", "1")]);
}

#[test]
fn a_pod_that_should_be_gone_uses_nothing_any_more() {
    let going = tree(
        r#"{"metadata":{"deletionTimestamp":"1970-01-01T00:01:00Z","deletionGracePeriodSeconds":30},"spec":{}}"#,
    );
    let at = MicroTime::from_unix_micros;
    let uses = |now| used_by("", "pods", &going, at(now)).contains_key("pods");
    assert_eq!(overdue(&going), Some(at(90_000_000)));
    assert!(uses(90_000_000) && !uses(90_000_001));
}

#[test]
fn services_use_node_ports_by_their_type() {
    let service = |kind: &str| {
        format!(r#"{{"spec":{{"type":"{kind}","ports":[{{"port":1}},{{"port":2,"nodePort":30000}}]"#)
    };
    let check_ports = |text: &str, balancers: &str, ports: &str| {
        let wanted = [
            ("count/services", "1"),
            ("services", "1"),
            ("services.loadbalancers", balancers),
            ("services.nodeports", ports),
        ];
        check("services", text, &wanted);
    };
    check_ports(&format!("{}}}}}", service("ClusterIP")), "0", "0");
    check_ports(&format!("{}}}}}", service("NodePort")), "0", "2");
    check_ports(&format!("{}}}}}", service("LoadBalancer")), "1", "2");
    let without = format!(
        r#"{},"allocateLoadBalancerNodePorts":false}}}}"#,
        service("LoadBalancer")
    );
    check_ports(&without, "1", "1");
}

#[test]
fn claims_use_storage_in_all_and_by_class() {
    check(
        "persistentvolumeclaims",
        r#"{"spec":{"storageClassName":"gold","resources":{"requests":{"storage":"5Gi"}}}}"#,
        &[
            ("count/persistentvolumeclaims", "1"),
            ("persistentvolumeclaims", "1"),
            ("requests.storage", "5Gi"),
            ("gold.storageclass.storage.k8s.io/persistentvolumeclaims", "1"),
            ("gold.storageclass.storage.k8s.io/requests.storage", "5Gi"),
        ],
    );
}

#[test]
fn old_kinds_have_a_bare_name_and_all_have_a_count() {
    check("secrets", "{}", &[("count/secrets", "1"), ("secrets", "1")]);
    let counts_deployments = |name| counts("apps", "deployments", name);
    assert!(counts_deployments("count/deployments.apps") && !counts_deployments("deployments"));
    let counts_pods = |name| counts("", "pods", name);
    assert!(counts_pods("requests.hugepages-2Mi") && counts_pods("requests.example.com/gpu"));
    assert!(!counts_pods("requests.storage") && !counts_pods("example.com/gpu"));
}

#[test]
fn scopes_part_pods() {
    let about = |scopes: &str, pod: &str| {
        let quota = format!(r#"{{"spec":{{"hard":{{"pods":"1"}},{scopes}}}}}"#);
        Scopes::of(&tree(&quota)).hold("", "pods", &tree(pod))
    };
    let (best, sized) = (r#"{"spec":{}}"#, POD);
    assert!(about(r#""scopes":["BestEffort"]"#, best) && !about(r#""scopes":["BestEffort"]"#, sized));
    assert!(about(r#""scopes":["NotBestEffort","NotTerminating"]"#, sized));
    let limited = r#"{"spec":{"activeDeadlineSeconds":5}}"#;
    assert!(
        about(r#""scopes":["Terminating"]"#, limited) && !about(r#""scopes":["NotTerminating"]"#, limited)
    );
    let classes = |operator: &str, values: &str| {
        format!(
            r#""scopeSelector":{{"matchExpressions":[{{"scopeName":"PriorityClass","operator":"{operator}","values":{values}}}]}}"#
        )
    };
    let high = r#"{"spec":{"priorityClassName":"high"}}"#;
    assert!(about(&classes("In", r#"["high"]"#), high) && !about(&classes("In", r#"["high"]"#), best));
    assert!(about(&classes("NotIn", r#"["high"]"#), best) && about(&classes("DoesNotExist", "[]"), best));
    let reaching = r#"{"spec":{"affinity":{"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"namespaces":["x"]}]}}}}"#;
    assert!(about(r#""scopes":["CrossNamespacePodAffinity"]"#, reaching));
    // Other kinds are in no scope.
    let quota = tree(r#"{"spec":{"hard":{"services":"1"},"scopes":["NotTerminating"]}}"#);
    assert!(!Scopes::of(&quota).hold("", "services", &tree("{}")));
    let of_class = tree(&format!(
        "{{\"spec\":{{{}}}}}",
        classes("Exists", "[]").replace("PriorityClass", "VolumeAttributesClass")
    ));
    let claim = tree(r#"{"spec":{"volumeAttributesClassName":"gold"}}"#);
    assert!(Scopes::of(&of_class).hold("", "persistentvolumeclaims", &claim));
}
