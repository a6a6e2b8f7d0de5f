use super::*;
use crate::testing::{World, create, nobody};
use cloudeck_machinery::value;

fn namespace(labels: &[(&str, &str)]) -> Value {
    let mut namespace = Value::object();
    for (name, text) in labels {
        namespace.set_at(
            &[
                "metadata",
                "labels",
                &format!("pod-security.kubernetes.io/{name}"),
            ],
            *text,
        );
    }
    namespace
}

fn world(labels: &[(&str, &str)]) -> World {
    World::default().with("namespaces", "", "dev", namespace(labels))
}

fn submit(labels: &[(&str, &str)], spec: Value) -> Result<Remarks, String> {
    let user = nobody();
    let pod = value!({"metadata": {"name": "p"}, "spec": (spec)});
    let request = create(&user, "pods", pod);
    world(labels)
        .validate(&PodSecurity, &request)
        .map_err(|refusal| refusal.status.message)
}

/// The part of the refusal that names the violations.
fn check(level: &str, spec: Value, expected: &str) {
    let refused = submit(&[("enforce", level)], spec).unwrap_err();
    assert_eq!(
        refused,
        format!("pods \"p\" is forbidden: violates PodSecurity \"{level}:latest\": {expected}")
    );
}

fn good_container(name: &str) -> Value {
    value!({"name": (name), "securityContext": {
        "allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}
    }})
}

fn with_context(context: Value) -> Value {
    value!({"containers": [{"name": "c", "securityContext": (context)}]})
}

#[test]
fn a_plain_pod_violates_restricted_in_upstreams_words() {
    check(
        "restricted",
        value!({"containers": [{"name": "nginx"}]}),
        "allowPrivilegeEscalation != false (container \"nginx\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"nginx\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"nginx\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"nginx\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    assert!(
        submit(
            &[("enforce", "restricted")],
            value!({"containers": [(good_container("c"))]})
        )
        .is_ok()
    );
    assert!(
        submit(
            &[("enforce", "baseline")],
            value!({"containers": [{"name": "nginx"}]})
        )
        .is_ok()
    );
    assert!(submit(&[], value!({"hostNetwork": true, "containers": []})).is_ok());
}

#[test]
fn the_checks_of_baseline_read_as_upstream() {
    for (spec, expected) in [
        (
            value!({"hostNetwork": true, "hostIPC": true}),
            "host namespaces (hostNetwork=true, hostIPC=true)",
        ),
        (
            with_context(value!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            value!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {"path": "/"}}]}),
            "hostPath volumes (volumes \"a\", \"b\")",
        ),
        (
            value!({"containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 8080}]}]}),
            "hostPort (container \"c\" uses hostPorts 80, 8080)",
        ),
        (
            with_context(value!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_ADMIN"]}})),
            "non-default capabilities (container \"c\" must not include \"NET_ADMIN\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            with_context(value!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            value!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}, "containers": [{"name": "c", "securityContext": {"seccompProfile": {"type": "Unconfined"}}}]}),
            "seccompProfile (pod and container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            value!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            with_context(value!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            with_context(value!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            value!({"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            value!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        check("baseline", spec, expected);
    }
}

/// The security context of the only container.
fn context(spec: &mut Value) -> &mut Value {
    spec.at_mut(&["containers"]).unwrap().as_array_mut().unwrap()[0]
        .at_mut(&["securityContext"])
        .unwrap()
}

#[test]
fn the_checks_of_restricted_read_as_upstream() {
    let restricted = |change: fn(&mut Value), expected: &str| {
        let mut spec = value!({"containers": [(good_container("c"))]});
        change(&mut spec);
        check("restricted", spec, expected);
    };
    restricted(
        |spec| {
            context(spec).set_at(&["capabilities", "add"], value!(["CHOWN", "NET_BIND_SERVICE"]));
        },
        "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
    );
    restricted(
        |spec| {
            context(spec).set_at(&["runAsNonRoot"], false);
        },
        "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
    );
    restricted(
        |spec| {
            spec.set_at(&["securityContext", "runAsUser"], 0);
        },
        "runAsUser=0 (pod must not set runAsUser=0)",
    );
    restricted(
        |spec| {
            spec.set_at(&["volumes"], value!([{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}}, {"name": "e", "emptyDir": {}}]));
        },
        "restricted volume types (volumes \"n\", \"h\" use restricted volume types \"hostPath\", \"nfs\")",
    );
}

#[test]
fn an_older_edition_knows_only_its_own_rules() {
    let probe = || value!({"containers": [{"name": "c", "livenessProbe": {"tcpSocket": {"host": "x"}}}]});
    assert!(submit(&[("enforce", "baseline"), ("enforce-version", "v1.33")], probe()).is_ok());
    assert!(submit(&[("enforce", "baseline"), ("enforce-version", "v1.34")], probe()).is_err());
    let refused = submit(&[("enforce", "baseline"), ("enforce-version", "v1.99")], probe()).unwrap_err();
    assert!(refused.contains("\"baseline:v1.99\""), "{refused}");
}

#[test]
fn warn_and_audit_tell_and_let_through() {
    let spec = || value!({"hostPID": true, "containers": []});
    let remarks = submit(&[("warn", "baseline"), ("audit", "baseline")], spec()).unwrap();
    assert_eq!(
        remarks.warnings,
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]
    );
    assert_eq!(remarks.audit.len(), 2);
    let user = nobody();
    let mut request = create(
        &user,
        "deployments",
        value!({"spec": {"template": {"spec": (spec())}}}),
    );
    request.group = "apps";
    let remarks = world(&[("enforce", "baseline")])
        .validate(&PodSecurity, &request)
        .unwrap();
    assert_eq!(
        remarks.warnings,
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]
    );
}

#[test]
fn an_update_that_changes_no_container_is_let_through() {
    let user = nobody();
    let old = value!({"spec": {"hostPID": true, "containers": [{"name": "c", "image": "a"}]}});
    let world = world(&[("enforce", "baseline")]);
    let update = |new: Value| {
        let base = create(&user, "pods", new);
        world
            .validate(
                &PodSecurity,
                &AdmissionRequest {
                    operation: Operation::Update,
                    old: Some(&old),
                    ..base
                },
            )
            .map(drop)
    };
    let mut labelled = old.clone();
    labelled.set_at(&["metadata", "labels", "a"], "b");
    assert!(update(labelled).is_ok());
    let mut moved = old.clone();
    moved
        .at_mut(&["spec", "containers"])
        .unwrap()
        .as_array_mut()
        .unwrap()[0]
        .set_at(&["image"], "b");
    assert!(update(moved).is_err());
}

#[test]
fn a_namespaces_labels_must_be_valid() {
    let user = nobody();
    let base = create(
        &user,
        "namespaces",
        namespace(&[("enforce", "strict"), ("warn-version", "1.2")]),
    );
    let request = AdmissionRequest { name: "dev", ..base };
    let refused = world(&[]).validate(&PodSecurity, &request).unwrap_err();
    assert_eq!(
        refused.status.message,
        "Namespace \"dev\" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.2\": must be \"latest\" or \"v1.x\"]"
    );
}

#[test]
fn a_stricter_namespace_tells_of_the_pods_that_run_already() {
    let user = nobody();
    let pid = || value!({"spec": {"hostPID": true}});
    let world = world(&[])
        .with("pods", "dev", "a", pid())
        .with("pods", "dev", "b", pid())
        .with("pods", "dev", "c", value!({"spec": {}}))
        .with("pods", "dev", "d", pid())
        .with(
            "pods",
            "dev",
            "e",
            value!({"spec": {"hostNetwork": true, "volumes": [{"hostPath": {}}]}}),
        );
    let mut new = namespace(&[("enforce", "baseline")]);
    new.set_at(&["metadata", "name"], "dev");
    let old = namespace(&[]);
    let request = AdmissionRequest {
        operation: Operation::Update,
        old: Some(&old),
        ..create(&user, "namespaces", new)
    };
    assert_eq!(
        world.validate(&PodSecurity, &request).unwrap().warnings,
        [
            "existing pods in namespace \"dev\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): host namespaces",
            "e: host namespaces, hostPath volumes"
        ]
    );
}
