//! The default roles and bindings, and how an existing cluster is brought up to them.
//!
//! [`objects`] are upstream's, from the generated table `bootstrap/facts.json` (made by `cargo xtask codegen`; facts of
//! Kubernetes 1.37), plus one binding of our own. [`reconcile`] adds what an existing object lacks and takes nothing away,
//! unless the object opted out with the annotation `rbac.authorization.kubernetes.io/autoupdate: "false"`.

mod reconcile;

use cloudeck_machinery::{Value, json, value};

use crate::rbac::{ClusterRoles, PolicyRule};

pub use reconcile::reconcile;

const FACTS: &[u8] = include_bytes!("bootstrap/facts.json");
const GROUP: &str = "rbac.authorization.k8s.io";

/// One default object.
#[derive(Debug, Clone, PartialEq)]
pub struct BootstrapObject {
    /// `clusterroles`, `clusterrolebindings`, `roles` or `rolebindings`.
    pub resource: &'static str,
    /// Empty for cluster-wide objects.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The object as it is created.
    pub tree: Value,
}

/// All default objects in the order in which they are to be created: roles before bindings. Aggregated roles already hold
/// the rules they gather, so that `view`, `edit` and `admin` work from the first moment.
pub fn objects() -> Vec<BootstrapObject> {
    let facts = facts();
    let lists = [
        ("clusterRoles", "clusterroles", "ClusterRole"),
        ("roles", "roles", "Role"),
        ("clusterRoleBindings", "clusterrolebindings", "ClusterRoleBinding"),
        ("roleBindings", "rolebindings", "RoleBinding"),
    ];
    let mut objects = Vec::new();
    for (list, resource, kind) in lists {
        objects.extend(facts.items_at(&[list]).iter().map(|fact| BootstrapObject {
            resource,
            namespace: fact.str_at(&["namespace"]).unwrap_or_default().to_owned(),
            name: fact.str_at(&["name"]).unwrap_or_default().to_owned(),
            tree: expand(fact, kind),
        }));
    }
    objects.push(kubelet_client_binding());
    gather_aggregated(&mut objects);
    objects
}

/// The rules of the ClusterRole `system:node`, which the Node authoriser grants to every node.
pub(crate) fn node_rules() -> Vec<PolicyRule> {
    let facts = facts();
    let roles = facts.items_at(&["clusterRoles"]).iter();
    let node = roles.filter(|role| role.str_at(&["name"]) == Some("system:node"));
    node.flat_map(|role| PolicyRule::all_of(&expand(role, "ClusterRole")))
        .collect()
}

fn facts() -> Value {
    json::parse(FACTS).expect("the generated table is JSON")
}

/// Ours: what the API server shows to node agents (see `cloudeck_pki::ClusterPki::kubelet_client`) may read logs and open
/// execs there, and nothing else. Upstream leaves this to the installer.
fn kubelet_client_binding() -> BootstrapObject {
    let name = "cloudeck:kubelet-api-admin";
    let fact = value!({
        "name": (name),
        "roleRef": "ClusterRole/system:kubelet-api-admin",
        "subjects": ["User/kube-apiserver-kubelet-client"]
    });
    BootstrapObject {
        resource: "clusterrolebindings",
        namespace: String::new(),
        name: name.to_owned(),
        tree: expand(&fact, "ClusterRoleBinding"),
    }
}

/// From the table's short form to the object.
fn expand(fact: &Value, kind: &str) -> Value {
    let mut tree = value!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": (kind),
        "metadata": {
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}
        }
    });
    for field in ["name", "namespace"] {
        if let Some(text) = fact.str_at(&[field]) {
            tree.set_at(&["metadata", field], text);
        }
    }
    for label in fact.items_at(&["labels"]).iter().filter_map(Value::as_str) {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        tree.set_at(&["metadata", "labels", key], value);
    }
    if kind.ends_with("Binding") {
        let reference = fact.str_at(&["roleRef"]).unwrap_or_default();
        let (role_kind, name) = reference.split_once('/').unwrap_or_default();
        tree.set_at(
            &["roleRef"],
            value!({"apiGroup": (GROUP), "kind": (role_kind), "name": (name)}),
        );
        let subjects = fact.items_at(&["subjects"]).iter().filter_map(Value::as_str);
        let subjects: Vec<Value> = subjects.map(subject).collect();
        if !subjects.is_empty() {
            tree.set_at(&["subjects"], subjects);
        }
        return tree;
    }
    let rules = fact.items_at(&["rules"]).iter().map(rule).collect();
    tree.set_at(&["rules"], Value::Array(rules));
    let selectors = fact.items_at(&["aggregates"]).iter().filter_map(Value::as_str);
    let selectors: Vec<Value> = selectors
        .map(|label| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            let mut selector = Value::object();
            selector.set_at(&["matchLabels", key], value);
            selector
        })
        .collect();
    if !selectors.is_empty() {
        tree.set_at(&["aggregationRule", "clusterRoleSelectors"], selectors);
    }
    tree
}

/// `User/NAME`, `Group/NAME` or `ServiceAccount/NAMESPACE/NAME`.
fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once('/').unwrap_or_default();
    if kind == "ServiceAccount" {
        let (namespace, name) = name.split_once('/').unwrap_or_default();
        return value!({"kind": (kind), "namespace": (namespace), "name": (name)});
    }
    value!({"apiGroup": (GROUP), "kind": (kind), "name": (name)})
}

/// A rule is `[verbs, groups, resources, names, urls]`, trailing empties left out.
fn rule(fact: &Value) -> Value {
    let strings = |at: usize| {
        let list = fact
            .as_array()
            .and_then(|lists| lists.get(at))
            .and_then(Value::as_array)
            .unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let rule = PolicyRule {
        verbs: strings(0),
        api_groups: strings(1),
        resources: strings(2),
        resource_names: strings(3),
        non_resource_urls: strings(4),
    };
    rule.to_value()
}

fn gather_aggregated(objects: &mut [BootstrapObject]) {
    let mut roles = ClusterRoles::default();
    for object in objects.iter().filter(|object| object.resource == "clusterroles") {
        roles.set(&object.name, Some(&object.tree));
    }
    for object in objects
        .iter_mut()
        .filter(|object| object.tree.get("aggregationRule").is_some())
    {
        let rules = roles
            .rules(&object.name)
            .into_iter()
            .flat_map(|rules| rules.iter());
        object
            .tree
            .set_at(&["rules"], rules.map(PolicyRule::to_value).collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests;
