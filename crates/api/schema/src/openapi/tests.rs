use cloudeck_machinery::{Value, json};

use super::*;

fn parsed(group: &str, version: &str) -> Value {
    json::parse(&Documents::default().document(group, version).unwrap()).unwrap()
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
fn descriptions_stand_at_types_and_fields() {
    let load = || {
        let text = "2\nRuns programs.\0Its programs.\0io.k8s.api.core.v1.PodSpec\t0\tcontainers=1\n";
        Descriptions::parse(text.to_owned()).unwrap()
    };
    let documents = Documents::new(Some(load));
    let document = json::parse(&documents.document("", "v1").unwrap()).unwrap();
    let schema = ["components", "schemas", "io.k8s.api.core.v1.PodSpec"];
    let schema = document.at(&schema).unwrap();
    assert_eq!(schema.str_at(&["description"]), Some("Runs programs."));
    let field = |name| schema.str_at(&["properties", name, "description"]);
    assert_eq!(field("containers"), Some("Its programs."));
    assert_eq!(field("volumes"), None);
}

#[test]
fn the_index_names_every_group_version_with_the_hash_of_its_document() {
    let documents = Documents::default();
    let index = documents.index();
    assert_eq!(index.len(), group_versions().count());
    let (path, hash) = index.iter().find(|(path, _)| path == "apis/apps/v1").unwrap();
    assert_eq!(
        (path.as_str(), hash),
        (
            "apis/apps/v1",
            &super::hash(&documents.document("apps", "v1").unwrap())
        )
    );
    assert!(documents.document("apps", "v1beta1").is_none());
}
