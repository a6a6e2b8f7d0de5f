use cloudeck_machinery::{Value, value};

use super::*;
use crate::type_of_kind;

fn check(of: (&str, &str, &str), new: &Value, old: Option<&Value>, wanted: &[&str]) {
    let ty = type_of_kind(of.0, of.1, of.2).unwrap();
    let found: Vec<String> = declarative_errors(ty, new, old)
        .into_iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    assert_eq!(found, wanted);
}

const STORAGE_CLASS: (&str, &str, &str) = ("storage.k8s.io", "v1", "StorageClass");

#[test]
fn what_is_required_must_be_there() {
    check(
        STORAGE_CLASS,
        &value!({"provisioner": ""}),
        None,
        &["provisioner: Required value"],
    );
    check(STORAGE_CLASS, &value!({"provisioner": "a"}), None, &[]);
}

#[test]
fn what_is_immutable_may_not_change() {
    let old = value!({"provisioner": "a", "parameters": {"k": "v"}});
    let new = value!({"provisioner": "b", "parameters": {}});
    check(
        STORAGE_CLASS,
        &new,
        Some(&old),
        &[
            "provisioner: Invalid value: null: field is immutable",
            "parameters: Invalid value: null: field is immutable",
        ],
    );
    check(STORAGE_CLASS, &old, Some(&old), &[]);
}

#[test]
fn enumerated_values_and_formats_are_checked() {
    check(
        ("discovery.k8s.io", "v1", "EndpointSlice"),
        &value!({"addressType": "IPv5"}),
        None,
        &[r#"addressType: Unsupported value: "IPv5": supported values: "FQDN", "IPv4", "IPv6""#],
    );
    check(
        ("node.k8s.io", "v1", "RuntimeClass"),
        &value!({"handler": "x"}),
        None,
        &[],
    );
    let found = declarative_errors(
        type_of_kind("node.k8s.io", "v1", "RuntimeClass").unwrap(),
        &value!({"handler": "No_Name"}),
        None,
    );
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .message
            .starts_with(r#"Invalid value: "No_Name": a lowercase RFC 1123 label"#),
        "{found:?}"
    );
}

#[test]
fn unions_have_exactly_one_member() {
    const REVIEW: (&str, &str, &str) = ("authorization.k8s.io", "v1", "SelfSubjectAccessReview");
    check(
        REVIEW,
        &value!({"spec": {"resourceAttributes": {}, "nonResourceAttributes": {}}}),
        None,
        &[
            r#"spec: Invalid value: "{resourceAttributes, nonResourceAttributes}": must specify exactly one of: `resourceAttributes`, `nonResourceAttributes`"#,
        ],
    );
    check(REVIEW, &value!({"spec": {"resourceAttributes": {}}}), None, &[]);
}

#[test]
fn lists_with_keys_have_each_key_once_and_unchanged_items_are_left_alone() {
    const CLAIM: (&str, &str, &str) = ("resource.k8s.io", "v1", "ResourceClaim");
    let twice = value!({"spec": {"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "c"}}, {"name": "a", "exactly": {"deviceClassName": "c"}},
    ]}}});
    let ty = type_of_kind(CLAIM.0, CLAIM.1, CLAIM.2).unwrap();
    let found = declarative_errors(ty, &twice, None);
    assert!(
        found.iter().any(|cause| cause.field == "spec.devices.requests[1]"
            && cause.message == r#"Duplicate value: {"name":"a"}"#),
        "{found:?}"
    );
    check(CLAIM, &twice, Some(&twice), &[]);
}
