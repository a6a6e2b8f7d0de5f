use crate::expect::defaulted;
use crate::strategy;

fn check(group: &str, kind: &str, text: &str, expected: &[&str]) {
    let found = (strategy(group, kind).warnings)(&defaulted(group, kind, text));
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_plain_pod_is_not_warned_of() {
    check(
        "",
        "Pod",
        r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
        &[],
    );
}

#[test]
fn new_pods_are_warned_of_what_hides_or_repeats() {
    check(
        "",
        "Pod",
        r#"{"metadata":{"name":"a.b","annotations":{"scheduler.alpha.kubernetes.io/critical-pod":""}},
            "spec":{"nodeSelector":{"beta.kubernetes.io/os":"linux"},"imagePullSecrets":[{"name":"s"},{"name":"s"}],
            "volumes":[{"name":"g","gitRepo":{"repository":"x"}}],
            "containers":[{"name":"c","image":"i","resources":{"limits":{"memory":"100m"}},
            "env":[{"name":"A","value":"1"},{"name":"A","value":"2"},{"name":"A","value":"$(A):3"}],
            "ports":[{"name":"x","containerPort":80},{"name":"x","containerPort":80}]}]}}"#,
        &[
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead",
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
            "spec.imagePullSecrets[1].name: duplicate name \"s\"",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[0].ports[1]: duplicate port name \"x\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]",
        ],
    );
}

#[test]
fn stored_pods_are_not_warned_of() {
    check(
        "",
        "Pod",
        r#"{"metadata":{"name":"a.b","resourceVersion":"1"},"spec":{"containers":[]}}"#,
        &[],
    );
}

#[test]
fn templates_are_warned_of_under_their_own_path() {
    check(
        "apps",
        "Deployment",
        r#"{"metadata":{"name":"d"},"spec":{"template":{"spec":{"containers":[],"topologySpreadConstraints":[{}]}}}}"#,
        &[
            "spec.template.spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        ],
    );
}

#[test]
fn services_are_warned_of_fields_that_do_nothing() {
    check(
        "",
        "Service",
        r#"{"spec":{"clusterIP":"None","clusterIPs":["None"],"externalIPs":["010.0.0.1"],"externalName":"x","trafficDistribution":"PreferClose"}}"#,
        &[
            "spec.externalIPs is ignored for headless services",
            "spec.externalIPs[0]: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"",
            "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
        ],
    );
}
