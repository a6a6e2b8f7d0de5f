//! Objects of every kind, in the shapes in which charts have them.

use cloudeck_e2e::Cluster;

const OBJECTS: &str = include_str!("charts.yaml");

/// kubectl tells of each object in a line; these do not end in what is expected.
fn others(told: &str, ending: &str) -> String {
    let lines = told.lines().filter(|line| !line.ends_with(ending));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_charts_hold_is_applied_and_then_differs_in_nothing() {
    let cluster = Cluster::start();
    let told = cluster.kubectl_with("apply -f -", OBJECTS).ok();
    assert_eq!(others(&told, " created"), "");
    assert_eq!(cluster.kubectl_with("diff -f -", OBJECTS).ok(), "");
    let told = cluster
        .kubectl_with("apply --server-side --force-conflicts -f -", OBJECTS)
        .ok();
    assert_eq!(others(&told, " serverside-applied"), "");
    let differences = cluster
        .kubectl_with("diff --server-side --force-conflicts -f -", OBJECTS)
        .ok();
    assert_eq!(differences, "");
    for (kind, columns) in [
        ("ingresses.networking.k8s.io", "CLASS HOSTS ADDRESS PORTS AGE"),
        ("jobs", "STATUS COMPLETIONS DURATION AGE"),
        (
            "horizontalpodautoscalers",
            "REFERENCE TARGETS MINPODS MAXPODS REPLICAS AGE",
        ),
        ("volumeattachments", "ATTACHER PV NODE ATTACHED AGE"),
        ("validatingwebhookconfigurations", "WEBHOOKS AGE"),
        ("runtimeclasses", "HANDLER AGE"),
        ("servicecidrs", "CIDRS AGE"),
    ] {
        let table = cluster.kubectl(&format!("get {kind} -n shop")).ok();
        let head: Vec<&str> = table
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert_eq!(head[1..].join(" "), columns, "{kind}");
    }
    cluster
        .kubectl_with("delete --wait=false --dry-run=server -f -", OBJECTS)
        .ok();
    let kept = cluster.kubectl("get deployments,jobs -n shop -o name").ok();
    assert_eq!(kept.lines().count(), 2, "a dry run deletes nothing: {kept}");
    cluster
        .kubectl_with("delete --ignore-not-found --timeout=60s -f -", OBJECTS)
        .ok();
    assert!(
        cluster
            .kubectl("get namespace shop")
            .refused()
            .contains("NotFound")
    );
}

#[test]
fn invalid_objects_are_refused_in_upstreams_words() {
    let cluster = Cluster::start();
    for (object, words) in [
        (
            r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j"},"spec":{"template":{"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        (
            r#"{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"c"},"spec":{"schedule":"often","jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}"#,
            "spec.schedule: Invalid value: \"often\": expected exactly 5 fields, found 1: [often]",
        ),
        (
            r#"{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"i"},"spec":{"rules":[{"http":{"paths":[{"path":"x","pathType":"Prefix","backend":{"service":{"name":"s","port":{"number":80}}}}]}}]}}"#,
            "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
        ),
        (
            r#"{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"c"},"spec":{"accessModes":["ReadWriteOnce"]}}"#,
            "spec.resources[storage]: Required value",
        ),
    ] {
        let refused = cluster.kubectl_with("create -f -", object).refused();
        assert!(refused.contains(words), "{words} is missing in {refused}");
    }
}
