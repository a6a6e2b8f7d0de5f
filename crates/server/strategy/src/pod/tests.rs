use cloudeck_machinery::{Value, json};

use crate::strategy;

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

fn defaulted(group: &str, kind: &str, text: &str) -> Value {
    let mut tree = tree(text);
    (strategy(group, kind).default)(&mut tree);
    tree
}

#[test]
fn a_bare_pod_gets_upstreams_defaults() {
    let pod = defaulted(
        "",
        "Pod",
        r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"nginx",
            "ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}},
            "livenessProbe":{"httpGet":{"port":80}}}],
            "volumes":[{"name":"v"},{"name":"s","secret":{"secretName":"x"}}]}}"#,
    );
    let expected = tree(
        r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"nginx","imagePullPolicy":"Always",
            "ports":[{"containerPort":80,"protocol":"TCP"}],"resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}},
            "livenessProbe":{"httpGet":{"port":80,"path":"/","scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,
            "successThreshold":1,"failureThreshold":3},
            "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],
            "volumes":[{"name":"v","emptyDir":{}},{"name":"s","secret":{"secretName":"x","defaultMode":420}}],
            "dnsPolicy":"ClusterFirst","restartPolicy":"Always","securityContext":{},"enableServiceLinks":true,
            "terminationGracePeriodSeconds":30,"schedulerName":"default-scheduler"}}"#,
    );
    assert_eq!(pod.to_string(), expected.to_string());
}

#[test]
fn the_pull_policy_follows_the_tag() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/a/nginx:v1", "IfNotPresent"),
        (
            "nginx@sha256:0123456789012345678901234567890123456789012345678901234567890123",
            "IfNotPresent",
        ),
        ("Not Valid", "IfNotPresent"),
    ] {
        let pod = defaulted(
            "",
            "Pod",
            &format!(r#"{{"spec":{{"containers":[{{"image":"{image}"}}]}}}}"#),
        );
        assert_eq!(
            pod.items_at(&["spec", "containers"])[0].str_at(&["imagePullPolicy"]),
            Some(policy),
            "{image}"
        );
    }
}

#[test]
fn creation_sets_the_phase_and_the_class_of_service() {
    for (resources, class) in [
        ("{}", "BestEffort"),
        (r#"{"requests":{"cpu":"1"}}"#, "Burstable"),
        (
            r#"{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"1000m","memory":"1Gi"}}"#,
            "Guaranteed",
        ),
        (
            r#"{"requests":{"cpu":"1","memory":"1Gi"},"limits":{"cpu":"2","memory":"1Gi"}}"#,
            "Burstable",
        ),
    ] {
        let mut pod = tree(&format!(
            r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#
        ));
        (strategy("", "Pod").prepare_create)(&mut pod);
        assert_eq!(pod.str_at(&["status", "phase"]), Some("Pending"));
        assert_eq!(pod.str_at(&["status", "qosClass"]), Some(class), "{resources}");
    }
}

#[test]
fn label_keys_are_merged_into_the_selector_beside_them() {
    let mut pod = tree(
        r#"{"metadata":{"labels":{"app":"x"}},"spec":{"topologySpreadConstraints":[
            {"matchLabelKeys":["app","absent"],"labelSelector":{}}]}}"#,
    );
    (strategy("", "Pod").prepare_create)(&mut pod);
    assert_eq!(
        pod.items_at(&["spec", "topologySpreadConstraints"])[0]
            .at(&["labelSelector"])
            .unwrap()
            .to_string(),
        r#"{"matchExpressions":[{"key":"app","operator":"In","values":["x"]}]}"#
    );
}

#[test]
fn amounts_below_a_thousandth_are_rounded_up() {
    let pod = defaulted(
        "",
        "Pod",
        r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"1500u","memory":"1Gi"}}}]}}"#,
    );
    let container = &pod.items_at(&["spec", "containers"])[0];
    assert_eq!(container.str_at(&["resources", "requests", "cpu"]), Some("2m"));
    assert_eq!(
        container.str_at(&["resources", "requests", "memory"]),
        Some("1Gi")
    );
}

#[test]
fn a_deployment_gets_its_strategy_and_its_template_no_service_links() {
    let deployment = defaulted(
        "apps",
        "Deployment",
        r#"{"spec":{"template":{"spec":{"containers":[]}}}}"#,
    );
    assert_eq!(
        deployment.to_string(),
        r#"{"spec":{"progressDeadlineSeconds":600,"replicas":1,"revisionHistoryLimit":10,"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"spec":{"containers":[],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#
    );
}

#[test]
fn a_service_gets_target_ports_and_traffic_policies() {
    let service = defaulted(
        "",
        "Service",
        r#"{"spec":{"ports":[{"port":80}],"type":"NodePort"}}"#,
    );
    assert_eq!(
        service.to_string(),
        r#"{"spec":{"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"NodePort"}}"#
    );
}

#[test]
fn a_namespace_gets_its_label_its_finalizer_and_its_phase() {
    let mut namespace = defaulted("", "Namespace", r#"{"metadata":{"name":"a"}}"#);
    (strategy("", "Namespace").prepare_create)(&mut namespace);
    assert_eq!(
        namespace.to_string(),
        r#"{"metadata":{"labels":{"kubernetes.io/metadata.name":"a"},"name":"a"},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}"#
    );
}

#[test]
fn every_selectable_field_of_a_pod_has_a_value() {
    let pod = defaulted(
        "",
        "Pod",
        r#"{"spec":{"nodeName":"n","containers":[]},"status":{"podIPs":[{"ip":"10.0.0.1"}]}}"#,
    );
    let fields = (strategy("", "Pod").fields)(&pod);
    let get = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(get("spec.nodeName"), Some("n"));
    assert_eq!(get("status.podIP"), Some("10.0.0.1"));
    assert_eq!(get("spec.hostNetwork"), Some("false"));
}

#[test]
fn resources_of_a_whole_pod_are_completed_from_its_containers() {
    let check = |own: &str, expected: &str| {
        let mut pod = tree(&format!(
            r#"{{"spec":{{"resources":{own},"initContainers":[
                {{"name":"i","resources":{{"requests":{{"cpu":"3"}},"limits":{{"cpu":"3"}}}}}}],
            "containers":[{{"name":"a","resources":{{"requests":{{"cpu":"1","memory":"1Gi"}},"limits":{{"cpu":"1"}}}}}},
                {{"name":"b","resources":{{"requests":{{"cpu":"500m"}},"limits":{{"cpu":"1"}}}}}}]}}}}"#
        ));
        (strategy("", "Pod").prepare_create)(&mut pod);
        assert_eq!(pod.at(&["spec", "resources"]).unwrap().to_string(), expected);
    };
    check("{}", "{}");
    check(
        r#"{"limits":{"memory":"2Gi"}}"#,
        r#"{"limits":{"cpu":"3","memory":"2Gi"},"requests":{"cpu":"3","memory":"1Gi"}}"#,
    );
    check(
        r#"{"requests":{"cpu":"5"}}"#,
        r#"{"limits":{"cpu":"5"},"requests":{"cpu":"5","memory":"1Gi"}}"#,
    );
}
