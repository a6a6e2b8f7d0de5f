use super::*;
use crate::testing::{World, create, nobody};
use cloudeck_machinery::value;

fn run(limits: Value, spec: Value) -> Result<Value, String> {
    let world = World::default().with("limitranges", "dev", "l", value!({"spec": {"limits": (limits)}}));
    let user = nobody();
    world.run(
        &LimitRanger,
        create(&user, "pods", value!({"metadata": {"name": "p"}, "spec": (spec)})),
    )
}

fn container(requests: Value, limits: Value) -> Value {
    value!({"containers": [{"name": "c", "resources": {"requests": (requests), "limits": (limits)}}]})
}

fn check(limits: Value, spec: Value, why: &str) {
    assert_eq!(
        run(limits, spec).unwrap_err(),
        format!("pods \"p\" is forbidden: {why}")
    );
}

#[test]
fn missing_amounts_are_filled_in_and_told() {
    let limits = value!([{"type": "Container", "default": {"cpu": "200m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}]);
    let spec = value!({
        "containers": [{"name": "a"}, {"name": "b", "resources": {"limits": {"cpu": "1", "memory": "2Gi"}, "requests": {"cpu": "1"}}}],
        "initContainers": [{"name": "i", "resources": {"limits": {"memory": "1Mi"}}}]
    });
    let pod = run(limits, spec).unwrap();
    assert_eq!(
        pod.str_at(&["metadata", "annotations", ANNOTATION]).unwrap(),
        "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; cpu request for init container i; cpu limit for init container i"
    );
    assert_eq!(
        pod.items_at(&["spec", "containers"])[0]
            .get("resources")
            .unwrap()
            .to_string(),
        r#"{"limits":{"cpu":"200m","memory":"1Gi"},"requests":{"cpu":"100m"}}"#
    );
}

#[test]
fn bounds_of_containers_are_kept_in_upstreams_words() {
    let min = || value!([{"type": "Container", "min": {"cpu": "100m"}}]);
    check(
        min(),
        value!({"containers": [{}]}),
        "minimum cpu usage per Container is 100m.  No request is specified",
    );
    check(
        min(),
        container(value!({"cpu": "50m"}), value!({})),
        "minimum cpu usage per Container is 100m, but request is 50m",
    );
    check(
        min(),
        container(value!({"cpu": "100m"}), value!({"cpu": "0.09"})),
        "minimum cpu usage per Container is 100m, but limit is 90m",
    );
    let max = || value!([{"type": "Container", "max": {"memory": "1Gi"}}]);
    check(
        max(),
        value!({"containers": [{}]}),
        "maximum memory usage per Container is 1Gi.  No limit is specified",
    );
    check(
        max(),
        container(value!({"memory": "3Gi"}), value!({"memory": "2Gi"})),
        "maximum memory usage per Container is 1Gi, but limit is 2Gi",
    );
    let ratio = || value!([{"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}}]);
    check(
        ratio(),
        container(value!({"cpu": "100m"}), value!({"cpu": "300m"})),
        "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
    );
    check(
        ratio(),
        container(value!({"cpu": "100m"}), value!({})),
        "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
    );
    assert!(
        run(
            ratio(),
            container(value!({"cpu": "100m"}), value!({"cpu": "200m"}))
        )
        .is_ok()
    );
}

#[test]
fn several_violations_are_listed() {
    let limits = value!([{"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}}]);
    check(
        limits,
        value!({"containers": [{}]}),
        "[minimum cpu usage per Container is 1.  No request is specified, maximum cpu usage per Container is 2.  No limit is specified]",
    );
}

#[test]
fn a_pod_counts_its_containers_together() {
    let max = || value!([{"type": "Pod", "max": {"memory": "1Gi"}}]);
    let of = |amount: &str| value!({"resources": {"limits": {"memory": (amount)}}});
    let mut sidecar = of("512Mi");
    sidecar.set_at(&["restartPolicy"], "Always");
    check(
        max(),
        value!({"containers": [(of("512Mi")), (of("768Mi"))]}),
        "maximum memory usage per Pod is 1Gi, but limit is 1280Mi",
    );
    assert!(
        run(
            max(),
            value!({"containers": [(of("512Mi"))], "initContainers": [(of("1Gi"))]})
        )
        .is_ok()
    );
    check(
        max(),
        value!({"containers": [(of("100Mi"))], "initContainers": [(sidecar), (of("600Mi"))]}),
        "maximum memory usage per Pod is 1Gi, but limit is 1112Mi",
    );
}

#[test]
fn claims_are_bounded_by_their_request() {
    let limits =
        value!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}}]);
    let world = World::default().with("limitranges", "dev", "l", value!({"spec": {"limits": (limits)}}));
    let claim = |size: &str| {
        let user = nobody();
        let claim =
            value!({"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": (size)}}}});
        world
            .run(&LimitRanger, create(&user, "persistentvolumeclaims", claim))
            .map(drop)
    };
    assert_eq!(claim("2Gi"), Ok(()));
    assert_eq!(
        claim("6Gi").unwrap_err(),
        r#"persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"#
    );
}
