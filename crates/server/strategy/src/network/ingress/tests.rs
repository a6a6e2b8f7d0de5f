use crate::expect::{check_create, check_status, check_update, tree};

fn check(spec: &str, expected: &[&str]) {
    let ingress = format!(r#"{{"metadata":{{"name":"i"}},"spec":{spec}}}"#);
    check_create("networking.k8s.io", "Ingress", &ingress, expected);
}

fn with_path(path: &str) -> String {
    format!(r#"{{"rules":[{{"host":"a.b","http":{{"paths":[{path}]}}}}]}}"#)
}

const BACKEND: &str = r#""backend":{"service":{"name":"s","port":{"number":80}}}"#;

#[test]
fn an_ingress_leads_somewhere() {
    check(
        r#"{"defaultBackend":{"service":{"name":"s","port":{"name":"http"}}}}"#,
        &[],
    );
    check(
        &with_path(&format!(r#"{{"path":"/","pathType":"Prefix",{BACKEND}}}"#)),
        &[],
    );
    check(
        "{}",
        &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
    check(
        r#"{"defaultBackend":{"service":{"port":{"name":"http","number":1}}}}"#,
        &[
            "spec.defaultBackend.service.name: Required value",
            "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
        ],
    );
    check(
        r#"{"defaultBackend":{}}"#,
        &["spec.defaultBackend: Invalid value: \"\": resource or service backend is required"],
    );
    check(
        r#"{"defaultBackend":{"resource":{"apiGroup":"a.b","kind":"K"}}}"#,
        &["spec.defaultBackend.resource.name: Required value"],
    );
}

#[test]
fn paths_are_absolute_and_straight() {
    let at = "spec.rules[0].http.paths[0]";
    check(
        &with_path(&format!("{{{BACKEND}}}")),
        &[&format!(
            "{at}.pathType: Required value: pathType must be specified"
        )],
    );
    check(
        &with_path(&format!(r#"{{"path":"a//b/..","pathType":"Exact",{BACKEND}}}"#)),
        &[
            &format!("{at}.path: Invalid value: \"a//b/..\": must be an absolute path"),
            &format!("{at}.path: Invalid value: \"a//b/..\": must not contain '//'"),
            &format!("{at}.path: Invalid value: \"a//b/..\": cannot end with '/..'"),
        ],
    );
    check(
        &with_path(&format!(r#"{{"path":"/","pathType":"Regex",{BACKEND}}}"#)),
        &[&format!(
            "{at}.pathType: Unsupported value: \"Regex\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""
        )],
    );
}

#[test]
fn hosts_are_names() {
    let ip =
        with_path(&format!(r#"{{"path":"/","pathType":"Prefix",{BACKEND}}}"#)).replace("a.b", "10.0.0.1");
    check(
        &ip,
        &["spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address"],
    );
    check(
        r#"{"defaultBackend":{"service":{"name":"s","port":{"number":80}}},"tls":[{"hosts":["*.a.b"],"secretName":"ok"}]}"#,
        &[],
    );
    check_status(
        "networking.k8s.io",
        "Ingress",
        "{}",
        r#"{"status":{"loadBalancer":{"ingress":[{"ip":"10.0.0.1","hostname":"10.0.0.1"}]}}}"#,
        &[
            "status.loadBalancer.ingress[0].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
        ],
    );
}

#[test]
fn the_old_annotation_is_warned_of_and_may_not_contradict() {
    let old = r#"{"metadata":{"name":"i","annotations":{"kubernetes.io/ingress.class":"nginx"}},
        "spec":{"defaultBackend":{"service":{"name":"s","port":{"number":80}}}}}"#;
    let warnings = (crate::strategy("networking.k8s.io", "Ingress").warnings)(&tree(old), None);
    assert_eq!(
        warnings,
        [
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
        ]
    );
    let both = old.replace(r#""spec":{"#, r#""spec":{"ingressClassName":"other","#);
    let why = "annotations.kubernetes.io/ingress.class: Invalid value: \"nginx\": must match `ingressClassName` when both are specified";
    check_create("networking.k8s.io", "Ingress", &both, &[why]);
    check_update("networking.k8s.io", "Ingress", &both, &both, &[]);
}

#[test]
fn a_class_has_one_controller_for_good() {
    let class = |spec: &str| format!(r#"{{"spec":{{{spec}}}}}"#);
    let check = |spec: &str, expected: &[&str]| {
        check_create("networking.k8s.io", "IngressClass", &class(spec), expected);
    };
    check(r#""controller":"k8s.io/nginx""#, &[]);
    check(
        r#""controller":"k8s.io/nginx","parameters":{"kind":"K","name":"n","scope":"Namespace"}"#,
        &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
    );
    check_update(
        "networking.k8s.io",
        "IngressClass",
        &class(r#""controller":"k8s.io/a""#),
        &class(r#""controller":"k8s.io/b""#),
        &["spec.controller: Invalid value: \"k8s.io/b\": field is immutable"],
    );
}
