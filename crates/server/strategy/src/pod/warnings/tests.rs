use crate::expect::{check_warnings as check, defaulted};
use crate::strategy;

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
    let pod = defaulted(
        "",
        "Pod",
        r#"{"metadata":{"name":"a.b"},"spec":{"containers":[]}}"#,
    );
    assert!((strategy("", "Pod").warnings)(&pod, Some(&pod)).is_empty());
}

#[test]
fn an_update_is_looked_at_when_it_means_something() {
    let object = |group: &str, kind: &str, generation: i64, extra: &str| {
        let text = format!(
            r#"{{"metadata":{{"name":"a.b","generation":{generation}}},"spec":{{{extra}
                "template":{{"spec":{{"nodeSelector":{{"beta.kubernetes.io/os":"linux"}},"containers":[]}}}}}}}}"#
        );
        defaulted(group, kind, &text)
    };
    let count = |kind: &str, old: (i64, &str), new: (i64, &str)| {
        let [old, new] = [old, new].map(|(generation, extra)| object("apps", kind, generation, extra));
        (strategy("apps", kind).warnings)(&new, Some(&old)).len()
    };
    assert_eq!(count("Deployment", (1, ""), (1, "")), 0);
    assert_eq!(
        count("Deployment", (1, ""), (2, "")),
        1,
        "of the label, not of the name"
    );
    assert_eq!(count("DaemonSet", (1, ""), (2, r#""minReadySeconds":5,"#)), 0);
    assert_eq!(
        count("StatefulSet", (1, ""), (1, r#""revisionHistoryLimit":-1,"#)),
        1
    );
}

#[test]
fn node_affinity_and_old_profiles_are_warned_of() {
    check(
        "apps",
        "ReplicaSet",
        r#"{"metadata":{"name":"r"},"spec":{"template":{
            "metadata":{"annotations":{"container.apparmor.security.beta.kubernetes.io/c":"unconfined"}},
            "spec":{"containers":[{"name":"c","image":"i"}],"affinity":{"nodeAffinity":{
            "requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
                {"matchExpressions":[{"key":"beta.kubernetes.io/arch","operator":"Exists"}]}]},
            "preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"preference":
                {"matchExpressions":[{"key":"k","operator":"In","values":["a b"]}]}}]}}}}}}"#,
        &[
            "spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
            "spec.template.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].values[0]: a b is invalid, a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            "spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead",
        ],
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
