use crate::expect::{check_create, check_status, check_update};

#[test]
fn a_namespace_is_active_until_it_is_deleted() {
    check_create(
        "",
        "Namespace",
        r#"{"metadata":{"name":"a"},"spec":{"finalizers":["kubernetes"]}}"#,
        &[],
    );
    check_create(
        "",
        "Namespace",
        r#"{"metadata":{"name":"a"},"spec":{"finalizers":["mine"]}}"#,
        &[
            "spec.finalizers: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    check_status(
        "",
        "Namespace",
        "{}",
        r#"{"status":{"phase":"Terminating"}}"#,
        &[
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
        ],
    );
    check_status(
        "",
        "Namespace",
        "{}",
        r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"},"status":{"phase":"Terminating"}}"#,
        &[],
    );
}

#[test]
fn a_lease_lasts_a_positive_time() {
    let group = "coordination.k8s.io";
    check_create(
        group,
        "Lease",
        r#"{"spec":{"leaseDurationSeconds":40,"holderIdentity":"n"}}"#,
        &[],
    );
    check_create(
        group,
        "Lease",
        r#"{"spec":{"leaseDurationSeconds":0,"leaseTransitions":-1,"preferredHolder":"x"}}"#,
        &[
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
        ],
    );
}

#[test]
fn system_priorities_are_the_systems() {
    let (group, kind) = ("scheduling.k8s.io", "PriorityClass");
    let class = |name: &str, value: i64| format!(r#"{{"metadata":{{"name":"{name}"}},"value":{value}}}"#);
    check_create(group, kind, &class("high", 1_000_000_000), &[]);
    check_create(group, kind, &class("system-node-critical", 2_000_001_000), &[]);
    check_create(
        group,
        kind,
        &class("high", 1_000_000_001),
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check_create(
        group,
        kind,
        &class("system-x", 1),
        &[
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
        ],
    );
    check_update(
        group,
        kind,
        &class("high", 1),
        &class("high", 2),
        &["value: Forbidden: may not be changed in an update."],
    );
}

#[test]
fn an_event_is_in_the_namespace_of_its_object() {
    let event = |rest: &str| format!(r#"{{"metadata":{{"namespace":"a"}},{rest}}}"#);
    check_create("", "Event", &event(r#""involvedObject":{"namespace":"a"}"#), &[]);
    check_create(
        "",
        "Event",
        &event(r#""involvedObject":{"namespace":"b"}"#),
        &["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"],
    );
    check_create(
        "",
        "Event",
        &event(
            r#""involvedObject":{"namespace":"a"},"eventTime":"2026-01-01T00:00:00.000000Z","reportingComponent":"x","reason":"r""#,
        ),
        &["reportingInstance: Required value", "action: Required value"],
    );
}

#[test]
fn a_nodes_taints_are_unique_and_its_range_stays() {
    check_create(
        "",
        "Node",
        r#"{"spec":{"taints":[{"key":"a","effect":"NoSchedule"},{"key":"a","effect":"NoSchedule"},{"key":"b","effect":"X"}]}}"#,
        &[
            "metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}: taints must be unique by key and effect pair",
            "metadata.taints[2].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
    let node = |range: &str| format!(r#"{{"spec":{{"podCIDR":"{range}"}}}}"#);
    check_update("", "Node", r#"{"spec":{}}"#, &node("10.0.0.0/24"), &[]);
    check_update(
        "",
        "Node",
        &node("10.0.0.0/24"),
        &node("10.0.1.0/24"),
        &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
    );
    check_update(
        "",
        "Node",
        r#"{"spec":{"providerID":"a"}}"#,
        r#"{"spec":{}}"#,
        &["spec.providerID: Invalid value: null: field cannot be cleared once set"],
    );
}
