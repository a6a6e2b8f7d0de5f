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
fn what_all_operations_of_a_path_take_stands_at_the_path() {
    let document = parsed("", "v1");
    let names = |path: &[&str]| {
        let parameters = document.at(&["paths"]).unwrap().items_at(path);
        let name = |parameter: &Value| parameter.str_at(&["name"]).unwrap().to_owned();
        parameters.iter().map(name).collect::<Vec<_>>().join(" ")
    };
    let pod = "/api/v1/namespaces/{namespace}/pods/{name}";
    assert_eq!(names(&[pod, "parameters"]), "name namespace pretty");
    assert_eq!(
        names(&[pod, "put", "parameters"]),
        "dryRun fieldManager fieldValidation"
    );
    assert_eq!(
        names(&[
            "/api/v1/namespaces/{namespace}/pods/{name}/portforward",
            "parameters"
        ]),
        "name namespace ports"
    );
    assert_eq!(
        names(&["/api/v1/nodes/{name}/proxy/{path}", "parameters"]),
        "name path path"
    );
}

#[test]
fn paths_answer_what_the_server_answers() {
    let document = parsed("", "v1");
    let answer = |path: &str, method: &str, media_type: &str| {
        let place = [
            "paths",
            path,
            method,
            "responses",
            "200",
            "content",
            media_type,
            "schema",
        ];
        document.at(&place).map(ToString::to_string).unwrap_or_default()
    };
    assert!(answer("/api/v1/", "get", "application/json").contains(".APIResourceList"));
    assert!(answer("/api/v1/pods", "get", "application/json;stream=watch").contains(".PodList"));
    let item = |plural: &str| format!("/api/v1/namespaces/{{namespace}}/{plural}/{{name}}");
    assert!(answer(&item("pods"), "delete", "application/yaml").contains(".core.v1.Pod\""));
    assert!(answer(&item("configmaps"), "delete", "application/yaml").contains(".v1.Status"));
    assert!(answer(&format!("{}/log", item("pods")), "get", "text/plain").contains("string"));
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
