//! Paths and operations of resources.

use cloudeck_machinery::{Map, Value, value};

use super::root_path;
use super::schemas::Schemas;
use crate::resources::{GroupVersionInfo, ResourceInfo, Subresource, resources, type_of_kind};
use crate::types::TypeRef;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

const LIST_PARAMETERS: [(&str, &str); 11] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
    ("pretty", "string"),
];
const WRITE_PARAMETERS: [(&str, &str); 3] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
];
const PATCH_PARAMETERS: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
];
const DELETE_PARAMETERS: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

/// Every path of a group version.
pub(super) fn paths_of(served: GroupVersionInfo, schemas: &mut Schemas<'_>) -> Map {
    let mut builder = Builder {
        served,
        schemas,
        paths: Map::new(),
    };
    for info in resources().filter(|info| info.group == served.group && info.version == served.version) {
        builder.add_resource(info);
        for sub in &info.subresources {
            builder.add_subresource(info, sub);
        }
    }
    builder.paths
}

struct Builder<'a, 't> {
    served: GroupVersionInfo,
    schemas: &'a mut Schemas<'t>,
    paths: Map,
}

/// What an operation is about.
struct Subject<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    ty: TypeRef,
    /// Group and version in operation ids, which stand after the verb.
    prefix: String,
    /// What stands after them.
    id: String,
}

impl Builder<'_, '_> {
    fn add_resource(&mut self, info: &ResourceInfo) {
        let Some(ty) = info.root else {
            return;
        };
        let scope = if info.namespaced { "Namespaced" } else { "" };
        let subject = Subject {
            group: info.group,
            version: info.version,
            kind: info.kind,
            ty,
            prefix: self.id_prefix(),
            id: format!("{scope}{}", info.kind),
        };
        let list = type_of_kind(info.group, info.version, &format!("{}List", info.kind));
        let collection = self.collection_path(info);
        let mut operations = Map::new();
        if let Some(list) = list.filter(|_| info.has_verb("list")) {
            operations.insert("get", self.operation(&subject, "list", "list", Some(list)));
            if info.namespaced {
                let mut everywhere = Map::new();
                let id = format!("{}ForAllNamespaces", info.kind);
                let subject = Subject {
                    id,
                    prefix: self.id_prefix(),
                    ..subject
                };
                everywhere.insert("get", self.operation(&subject, "list", "list", Some(list)));
                let path = format!("/{}/{}", root_path(self.served), info.plural);
                self.paths.insert(path, Value::Object(everywhere));
            }
        }
        if info.has_verb("create") {
            operations.insert("post", self.operation(&subject, "create", "post", Some(ty)));
        }
        if info.has_verb("deletecollection") {
            let subject = Subject {
                id: format!("Collection{}", subject.id),
                prefix: self.id_prefix(),
                ..subject
            };
            operations.insert(
                "delete",
                self.operation(&subject, "delete", "deletecollection", None),
            );
        }
        self.insert(
            collection.clone(),
            operations,
            &parameters_of_path(info.namespaced, false),
        );
        self.add_item(
            format!("{collection}/{{name}}"),
            info.namespaced,
            &subject,
            &info.verbs,
        );
    }

    fn add_subresource(&mut self, info: &ResourceInfo, sub: &Subresource) {
        let Some(ty) = type_of_kind(sub.group, sub.version, sub.kind) else {
            return;
        };
        let scope = if info.namespaced { "Namespaced" } else { "" };
        let name = capitalised(sub.name);
        let subject = Subject {
            group: sub.group,
            version: sub.version,
            kind: sub.kind,
            ty,
            prefix: self.id_prefix(),
            id: format!("{scope}{}{name}", info.kind),
        };
        let path = format!("{}/{{name}}/{}", self.collection_path(info), sub.name);
        if sub.kind.ends_with("Options") {
            let mut operations = Map::new();
            for verb in &sub.verbs {
                let method = method_of(verb);
                let id = format!("{}{}", capitalised(method), subject.id);
                let subject = Subject {
                    id,
                    prefix: self.id_prefix(),
                    ..subject
                };
                operations.insert(method, connection(&subject, self.tag()));
            }
            self.insert(path, operations, &parameters_of_path(info.namespaced, true));
        } else {
            self.add_item(path, info.namespaced, &subject, &sub.verbs);
        }
    }

    /// Operations on one object.
    fn add_item(&mut self, path: String, namespaced: bool, subject: &Subject<'_>, verbs: &[&str]) {
        let mut operations = Map::new();
        for verb in verbs {
            let (id, answer) = match *verb {
                "get" => ("read", Some(subject.ty)),
                "update" => ("replace", Some(subject.ty)),
                "patch" => ("patch", Some(subject.ty)),
                "delete" => ("delete", None),
                // On an object's own path only subresources create.
                "create" if !path.ends_with("{name}") => ("create", Some(subject.ty)),
                _ => continue,
            };
            let method = method_of(verb);
            operations.insert(method, self.operation(subject, id, method, answer));
        }
        self.insert(path, operations, &parameters_of_path(namespaced, true));
    }

    fn insert(&mut self, path: String, operations: Map, parameters: &[Value]) {
        if !operations.is_empty() {
            let mut item = Value::Object(operations);
            item.set_at(&["parameters"], parameters.to_vec());
            self.paths.insert(path, item);
        }
    }

    /// One operation. Without an answering type it answers a Status.
    fn operation(
        &mut self,
        subject: &Subject<'_>,
        verb: &str,
        action: &str,
        answer: Option<TypeRef>,
    ) -> Value {
        let status = TypeRef::by_name(&format!("{META}.Status"));
        let answer = answer
            .or(status)
            .map(|ty| self.schemas.refer(ty))
            .unwrap_or_default();
        let mut content = Map::new();
        content.insert("application/json", value!({"schema": (answer.clone())}));
        if action == "list" {
            content.insert("application/json;stream=watch", value!({"schema": (answer)}));
        }
        let ok = value!({"description": "OK", "content": (content)});
        let mut responses = value!({"200": (ok.clone()), "401": {"description": "Unauthorized"}});
        if matches!(action, "post" | "put" | "patch") {
            let mut created = ok;
            created.set_at(&["description"], "Created");
            responses.set_at(&["201"], created);
        }
        let parameters: &[(&str, &str)] = match action {
            "list" => &LIST_PARAMETERS,
            "post" | "put" => &WRITE_PARAMETERS,
            "patch" => &PATCH_PARAMETERS,
            "delete" | "deletecollection" => &DELETE_PARAMETERS,
            _ => &[],
        };
        let mut operation = described(subject, self.tag(), verb, action);
        operation.set_at(&["responses"], responses);
        if !parameters.is_empty() {
            let parameters: Vec<Value> = parameters
                .iter()
                .map(|(name, ty)| parameter(name, "query", ty))
                .collect();
            operation.set_at(&["parameters"], parameters);
        }
        if let Some(body) = self.body(subject, action) {
            operation.set_at(&["requestBody"], body);
        }
        operation
    }

    fn body(&mut self, subject: &Subject<'_>, action: &str) -> Option<Value> {
        match action {
            "post" | "put" => {
                let schema = self.schemas.refer(subject.ty);
                Some(value!({"content": {"*/*": {"schema": (schema)}}, "required": true}))
            }
            "patch" => {
                let schema = self.schemas.refer_to_patch();
                let content: Map = PATCH_TYPES
                    .iter()
                    .map(|name| (*name, value!({"schema": (schema.clone())})))
                    .collect();
                Some(value!({"content": (content), "required": true}))
            }
            "delete" | "deletecollection" => {
                let options = TypeRef::by_name(&format!("{META}.DeleteOptions"))?;
                Some(value!({"content": {"*/*": {"schema": (self.schemas.refer(options))}}}))
            }
            _ => None,
        }
    }

    fn collection_path(&self, info: &ResourceInfo) -> String {
        let scope = if info.namespaced {
            "namespaces/{namespace}/"
        } else {
            ""
        };
        format!("/{}/{scope}{}", root_path(self.served), info.plural)
    }

    /// `rbacAuthorization_v1`.
    fn tag(&self) -> String {
        let mut tag = group_words(self.served.group);
        if let Some(first) = tag.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        format!("{tag}_{}", self.served.version)
    }

    /// `RbacAuthorizationV1`.
    fn id_prefix(&self) -> String {
        format!(
            "{}{}",
            group_words(self.served.group),
            self.served.version.to_ascii_uppercase()
        )
    }
}

fn group_words(group: &str) -> String {
    if group.is_empty() {
        return "Core".to_owned();
    }
    group
        .trim_end_matches(".k8s.io")
        .split('.')
        .map(capitalised)
        .collect()
}

/// `pods` → `Pods`; words here are ASCII.
fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_ascii_uppercase() + rest
}

fn method_of(verb: &str) -> &'static str {
    match verb {
        "create" => "post",
        "update" => "put",
        "patch" => "patch",
        "delete" => "delete",
        _ => "get",
    }
}

fn described(subject: &Subject<'_>, tag: String, verb: &str, action: &str) -> Value {
    value!({
        "operationId": (format!("{verb}{}{}", subject.prefix, subject.id)),
        "tags": [(tag)],
        "x-kubernetes-action": (action),
        "x-kubernetes-group-version-kind": {
            "group": (subject.group),
            "version": (subject.version),
            "kind": (subject.kind),
        },
    })
}

/// An upgraded or proxied connection.
fn connection(subject: &Subject<'_>, tag: String) -> Value {
    let mut operation = described(subject, tag, "connect", "connect");
    operation.set_at(
        &["responses"],
        value!({
            "200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}},
            "401": {"description": "Unauthorized"},
        }),
    );
    operation
}

fn parameters_of_path(namespaced: bool, named: bool) -> Vec<Value> {
    [(named, "name"), (namespaced, "namespace")]
        .into_iter()
        .filter(|(there, _)| *there)
        .map(|(_, name)| parameter(name, "path", "string"))
        .collect()
}

fn parameter(name: &str, place: &str, ty: &str) -> Value {
    let mut parameter =
        value!({"name": (name), "in": (place), "schema": {"type": (ty), "uniqueItems": true}});
    if place == "path" {
        parameter.set_at(&["required"], true);
    }
    parameter
}
