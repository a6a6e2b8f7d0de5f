//! Paths and operations of resources.

use cloudeck_machinery::{Map, Value, value};

use super::parameters::{self, Parameters};
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

/// What a proxied connection may be opened with.
const PROXY_METHODS: [&str; 7] = ["delete", "get", "head", "options", "patch", "post", "put"];

/// Every path of a group version.
pub(super) fn paths_of(served: GroupVersionInfo, schemas: &mut Schemas<'_>) -> Map {
    let mut builder = Builder {
        served,
        schemas,
        paths: Map::new(),
    };
    builder.add_root();
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

/// Operations of one path: method, operation, parameters in the query.
type Operations = Vec<(&'static str, Value, Parameters)>;

impl Builder<'_, '_> {
    /// Discovery of the group version itself.
    fn add_root(&mut self) {
        let Some(list) = TypeRef::by_name(&format!("{META}.APIResourceList")) else {
            return;
        };
        let schema = self.schemas.refer(list);
        let content = value!({"application/json": {"schema": (schema)}});
        let operation = value!({
            "operationId": (format!("get{}APIResources", self.id_prefix())),
            "responses": (responses(&["200"], &content)),
            "tags": [(self.tag())],
        });
        self.paths.insert(
            format!("/{}/", root_path(self.served)),
            value!({"get": (operation)}),
        );
    }

    fn add_resource(&mut self, info: &ResourceInfo) {
        let Some(ty) = info.root else {
            return;
        };
        let scope = if info.namespaced { "Namespaced" } else { "" };
        let mut subject = Subject {
            group: info.group,
            version: info.version,
            kind: info.kind,
            ty,
            prefix: self.id_prefix(),
            id: format!("{scope}{}", info.kind),
        };
        let list = type_of_kind(info.group, info.version, &format!("{}List", info.kind));
        let list = list.filter(|_| info.has_verb("list"));
        let collection = self.collection_path(info);
        let mut operations = Operations::new();
        if let Some(list) = list {
            operations.push(self.operation("get", &subject, "list", "list", Some(list)));
        }
        if info.has_verb("create") {
            operations.push(self.operation("post", &subject, "create", "post", Some(ty)));
        }
        self.add_item(format!("{collection}/{{name}}"), &subject, &info.verbs);
        if info.has_verb("deletecollection") {
            subject.id = format!("Collection{scope}{}", info.kind);
            operations.push(self.operation("delete", &subject, "delete", "deletecollection", None));
        }
        self.insert(collection, operations);
        if let Some(list) = list.filter(|_| info.namespaced) {
            subject.id = format!("{}ForAllNamespaces", info.kind);
            let everywhere = self.operation("get", &subject, "list", "list", Some(list));
            let path = format!("/{}/{}", root_path(self.served), info.plural);
            self.insert(path, vec![everywhere]);
        }
    }

    fn add_subresource(&mut self, info: &ResourceInfo, sub: &Subresource) {
        let Some(ty) = type_of_kind(sub.group, sub.version, sub.kind) else {
            return;
        };
        let scope = if info.namespaced { "Namespaced" } else { "" };
        let subject = Subject {
            group: sub.group,
            version: sub.version,
            kind: sub.kind,
            ty,
            prefix: self.id_prefix(),
            id: format!("{scope}{}{}", info.kind, capitalised(sub.name)),
        };
        let path = format!("{}/{{name}}/{}", self.collection_path(info), sub.name);
        if sub.kind.ends_with("Options") {
            self.add_connections(&path, &subject, sub);
        } else {
            self.add_item(path, &subject, &sub.verbs);
        }
    }

    /// Connections through to a node or pod; a proxy has paths of its own behind it.
    fn add_connections(&mut self, path: &str, subject: &Subject<'_>, sub: &Subresource) {
        let proxy = sub.name == "proxy";
        let methods: Vec<&'static str> = if proxy {
            PROXY_METHODS.to_vec()
        } else {
            sub.verbs.iter().map(|verb| method_of(verb)).collect()
        };
        let behind = [("", String::new()), ("WithPath", "/{path}".to_owned())];
        for (suffix, rest) in behind.into_iter().take(1 + usize::from(proxy)) {
            let operations = methods
                .iter()
                .map(|method| {
                    let id = format!(
                        "connect{}{}{}{suffix}",
                        subject.prefix,
                        capitalised(method),
                        subject.id
                    );
                    let operation = connection(subject, self.tag(), &id);
                    (*method, operation, parameters::of_options(subject.ty))
                })
                .collect();
            self.insert(format!("{path}{rest}"), operations);
        }
    }

    /// Operations on one object.
    fn add_item(&mut self, path: String, subject: &Subject<'_>, verbs: &[&str]) {
        let mut operations = Operations::new();
        for verb in verbs {
            let (id, answer) = match *verb {
                "get" => ("read", Some(subject.ty)),
                "update" => ("replace", Some(subject.ty)),
                "patch" => ("patch", Some(subject.ty)),
                "delete" => ("delete", Some(subject.ty).filter(|_| answers_deleted(subject))),
                // On an object's own path only subresources create.
                "create" if !path.ends_with("{name}") => ("create", Some(subject.ty)),
                _ => continue,
            };
            let method = method_of(verb);
            operations.push(self.operation(method, subject, id, method, answer));
        }
        if path.ends_with("/pods/{name}/log") {
            read_as_text(&mut operations);
        }
        self.insert(path, operations);
    }

    fn insert(&mut self, path: String, operations: Operations) {
        if !operations.is_empty() {
            let item = parameters::place(&path, operations);
            self.paths.insert(path, item);
        }
    }

    /// One operation. Without an answering type it answers a Status.
    fn operation(
        &mut self,
        method: &'static str,
        subject: &Subject<'_>,
        verb: &str,
        action: &str,
        answer: Option<TypeRef>,
    ) -> (&'static str, Value, Parameters) {
        let status = TypeRef::by_name(&format!("{META}.Status"));
        let answer = answer
            .or(status)
            .map(|ty| self.schemas.refer(ty))
            .unwrap_or_default();
        let types: &[&str] = match action {
            "list" => &[
                "application/json",
                "application/json;stream=watch",
                "application/yaml",
            ],
            _ => &["application/json", "application/yaml"],
        };
        let content: Map = types
            .iter()
            .map(|name| (*name, value!({"schema": (answer.clone())})))
            .collect();
        let codes: &[&str] = match action {
            "post" => &["200", "201", "202"],
            "put" | "patch" => &["200", "201"],
            "delete" => &["200", "202"],
            _ => &["200"],
        };
        let id = format!("{verb}{}{}", subject.prefix, subject.id);
        let mut operation = described(subject, self.tag(), &id, action);
        operation.set_at(&["responses"], responses(codes, &Value::Object(content)));
        if let Some(body) = self.body(subject, action) {
            operation.set_at(&["requestBody"], body);
        }
        (method, operation, parameters::of_action(action))
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

/// Kinds whose deletion is answered by the object; by a Status for others.
fn answers_deleted(subject: &Subject<'_>) -> bool {
    match subject.group {
        "" => matches!(
            subject.kind,
            "PersistentVolume"
                | "PersistentVolumeClaim"
                | "Pod"
                | "PodTemplate"
                | "ResourceQuota"
                | "Service"
                | "ServiceAccount"
        ),
        "resource.k8s.io" => true,
        "storage.k8s.io" => subject.kind != "CSIStorageCapacity",
        _ => false,
    }
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

/// What an operation is called and about.
fn described(subject: &Subject<'_>, tag: String, id: &str, action: &str) -> Value {
    value!({
        "operationId": (id),
        "tags": [(tag)],
        "x-kubernetes-action": (action),
        "x-kubernetes-group-version-kind": {
            "group": (subject.group),
            "version": (subject.version),
            "kind": (subject.kind),
        },
    })
}

/// The same answer under several codes, and the one for strangers.
fn responses(codes: &[&str], content: &Value) -> Value {
    let mut all = value!({"401": {"description": "Unauthorized"}});
    for code in codes {
        let name = match *code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        all.set_at(
            &[code],
            value!({"description": (name), "content": (content.clone())}),
        );
    }
    all
}

/// An upgraded or proxied connection.
fn connection(subject: &Subject<'_>, tag: String, id: &str) -> Value {
    let mut operation = described(subject, tag, id, "connect");
    let content = value!({"*/*": {"schema": {"type": "string"}}});
    operation.set_at(&["responses"], responses(&["200"], &content));
    operation
}

/// Logs are text, and take options that no body carries.
fn read_as_text(operations: &mut Operations) {
    for (_, operation, taken) in operations {
        let text = value!({"schema": {"type": "string"}});
        let content: Map = ["application/json", "application/yaml", "text/plain"]
            .into_iter()
            .map(|name| (name, text.clone()))
            .collect();
        operation.set_at(&["responses", "200", "content"], content);
        if let Some(options) = TypeRef::by_name("io.k8s.api.core.v1.PodLogOptions") {
            taken.extend(parameters::of_options(options));
            taken.sort_unstable();
        }
    }
}
