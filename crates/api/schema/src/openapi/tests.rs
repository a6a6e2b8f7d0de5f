use cloudeck_machinery::{Value, json};

use super::*;

fn parsed(group: &str, version: &str) -> Value {
    json::parse(&document(group, version).unwrap()).unwrap()
}

#[test]
fn a_patch_operation_names_every_patch_type_and_field_validation() {
    let document = parsed("apps", "v1");
    let patch = document
        .at(&[
            "paths",
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}",
            "patch",
        ])
        .unwrap();
    let content = patch.at(&["requestBody", "content"]).unwrap();
    assert!(content.get("application/strategic-merge-patch+json").is_some());
    assert!(content.get("application/apply-patch+yaml").is_some());
    assert!(
        patch
            .items_at(&["parameters"])
            .iter()
            .any(|p| p.str_at(&["name"]) == Some("fieldValidation"))
    );
    assert_eq!(
        patch.get("x-kubernetes-group-version-kind").unwrap().to_string(),
        r#"{"group":"apps","kind":"Deployment","version":"v1"}"#
    );
    assert_eq!(
        patch.str_at(&["operationId"]),
        Some("patchAppsV1NamespacedDeployment")
    );
}

#[test]
fn schemas_carry_the_merge_facts() {
    let document = parsed("apps", "v1");
    let property = |name: &str, field: &str| {
        document
            .at(&["components", "schemas", name, "properties", field])
            .unwrap()
            .to_string()
    };
    assert_eq!(
        property("io.k8s.api.apps.v1.DeploymentSpec", "strategy"),
        r##"{"allOf":[{"$ref":"#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}],"default":{},"x-kubernetes-patch-strategy":"retainKeys"}"##
    );
    assert_eq!(
        property("io.k8s.api.core.v1.Container", "ports"),
        r##"{"items":{"$ref":"#/components/schemas/io.k8s.api.core.v1.ContainerPort"},"type":"array","x-kubernetes-list-map-keys":["containerPort","protocol"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"containerPort","x-kubernetes-patch-strategy":"merge"}"##
    );
}

#[test]
fn every_reference_of_every_document_resolves() {
    for served in group_versions() {
        let document = parsed(served.group, served.version);
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            match value {
                Value::Array(items) => open.extend(items),
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        let name = target.strip_prefix("#/components/schemas/").unwrap();
                        assert!(
                            document.at(&["components", "schemas", name]).is_some(),
                            "{target}"
                        );
                    }
                    open.extend(map.values());
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_index_names_every_group_version_with_the_hash_of_its_document() {
    let index = index();
    assert_eq!(index.len(), group_versions().count());
    let (path, hash) = index.iter().find(|(path, _)| path == "apis/apps/v1").unwrap();
    assert_eq!(
        (path.as_str(), hash),
        ("apis/apps/v1", &super::hash(&document("apps", "v1").unwrap()))
    );
    assert!(document("apps", "v1beta1").is_none());
}
