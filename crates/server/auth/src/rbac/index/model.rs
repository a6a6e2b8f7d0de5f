//! The index against a model that keeps nothing but the objects and scans them all for every question.

use std::collections::BTreeMap;

use cloudeck_machinery::value;
use proptest::prelude::*;

use super::*;

const NAMESPACES: [&str; 2] = ["dev", "prod"];
const VERBS: [&str; 2] = ["get", "create"];

#[derive(Debug, Clone)]
enum Change {
    ClusterRole(usize, Option<usize>),
    Role(usize, usize, Option<usize>),
    ClusterBinding(usize, Option<Grant>),
    Binding(usize, usize, Option<Grant>),
}

/// A role by number, and subjects.
#[derive(Debug, Clone)]
struct Grant {
    cluster_role: bool,
    role: usize,
    subjects: Vec<(usize, usize)>,
}

fn grant() -> impl Strategy<Value = Grant> {
    let subjects = proptest::collection::vec((0..3_usize, 0..2_usize), 0..3);
    (any::<bool>(), 0..2_usize, subjects).prop_map(|(cluster_role, role, subjects)| Grant {
        cluster_role,
        role,
        subjects,
    })
}

fn change() -> impl Strategy<Value = Change> {
    let verb = || proptest::option::of(0..VERBS.len());
    prop_oneof![
        (0..2_usize, verb()).prop_map(|(name, verb)| Change::ClusterRole(name, verb)),
        (0..2_usize, 0..2_usize, verb())
            .prop_map(|(namespace, name, verb)| Change::Role(namespace, name, verb)),
        (0..2_usize, proptest::option::of(grant()))
            .prop_map(|(name, grant)| Change::ClusterBinding(name, grant)),
        (0..2_usize, 0..2_usize, proptest::option::of(grant()))
            .prop_map(|(namespace, name, grant)| Change::Binding(namespace, name, grant)),
    ]
}

/// Objects by namespace (empty for cluster-wide ones) and name.
#[derive(Default)]
struct Model {
    roles: BTreeMap<(String, String), Value>,
    bindings: BTreeMap<(String, String), Value>,
}

fn role(verb: usize) -> Value {
    value!({"rules": [{"verbs": [(VERBS[verb])], "apiGroups": [""], "resources": ["pods"]}]})
}

fn binding(grant: &Grant) -> Value {
    let subject = |(kind, name): &(usize, usize)| match kind {
        0 => value!({"kind": "User", "name": (format!("u{name}"))}),
        1 => value!({"kind": "Group", "name": (format!("g{name}"))}),
        _ => value!({"kind": "ServiceAccount", "name": "bot", "namespace": (NAMESPACES[*name])}),
    };
    let subjects: Vec<Value> = grant.subjects.iter().map(subject).collect();
    let kind = if grant.cluster_role { "ClusterRole" } else { "Role" };
    value!({"roleRef": {"kind": (kind), "name": (format!("r{}", grant.role))}, "subjects": (subjects)})
}

fn put(objects: &mut BTreeMap<(String, String), Value>, namespace: &str, name: &str, object: Option<Value>) {
    let key = (namespace.to_owned(), name.to_owned());
    match object {
        Some(object) => objects.insert(key, object),
        None => objects.remove(&key),
    };
}

fn apply(change: &Change, index: &mut RbacIndex, model: &mut Model) {
    match change {
        Change::ClusterRole(name, verb) => {
            let (name, object) = (format!("r{name}"), verb.map(role));
            index.set_cluster_role(&name, object.as_ref());
            put(&mut model.roles, "", &name, object);
        }
        Change::Role(namespace, name, verb) => {
            let (namespace, name, object) = (NAMESPACES[*namespace], format!("r{name}"), verb.map(role));
            index.set_role(namespace, &name, object.as_ref());
            put(&mut model.roles, namespace, &name, object);
        }
        Change::ClusterBinding(name, grant) => {
            let (name, object) = (format!("b{name}"), grant.as_ref().map(binding));
            index.set_cluster_role_binding(&name, object.as_ref());
            put(&mut model.bindings, "", &name, object);
        }
        Change::Binding(namespace, name, grant) => {
            let (namespace, name, object) = (
                NAMESPACES[*namespace],
                format!("b{name}"),
                grant.as_ref().map(binding),
            );
            index.set_role_binding(namespace, &name, object.as_ref());
            put(&mut model.bindings, namespace, &name, object);
        }
    }
}

impl Model {
    fn allows(&self, attributes: &Attributes<'_>) -> bool {
        self.bindings.iter().any(|((namespace, _), binding)| {
            let in_scope = namespace.is_empty() || namespace == attributes.namespace;
            let of_user = binding
                .items_at(&["subjects"])
                .iter()
                .any(|subject| is_subject(attributes.user, subject));
            let reference = RoleRef::of(binding);
            let role_namespace = if reference.kind == "ClusterRole" {
                ""
            } else {
                namespace
            };
            // A cluster-wide binding finds no Role.
            let found = (reference.kind == "ClusterRole" || !namespace.is_empty())
                .then(|| {
                    self.roles
                        .get(&(role_namespace.to_owned(), reference.name.clone()))
                })
                .flatten();
            let allows = found.is_some_and(|role| {
                PolicyRule::all_of(role)
                    .iter()
                    .any(|rule| rule.allows(attributes))
            });
            in_scope && of_user && allows
        })
    }
}

fn is_subject(user: &UserInfo, subject: &Value) -> bool {
    let text = |field| subject.str_at(&[field]).unwrap_or_default();
    match text("kind") {
        "User" => text("name") == user.name,
        "Group" => user.is_in(text("name")),
        _ => service_account_name(text("namespace"), text("name")) == user.name,
    }
}

proptest! {
    #[test]
    fn the_index_agrees_with_a_full_scan(changes in proptest::collection::vec(change(), 1..40)) {
        let (mut index, mut model) = (RbacIndex::default(), Model::default());
        let with_group = |name: &str, group: &str| UserInfo { groups: vec![group.to_owned()], ..UserInfo::named(name) };
        let users = [
            UserInfo::named("u0"),
            with_group("u1", "g0"),
            with_group("x", "g1"),
            UserInfo::service_account("dev", "bot", ""),
        ];
        for change in &changes {
            apply(change, &mut index, &mut model);
        }
        for user in &users {
            for (verb, namespace) in VERBS.iter().flat_map(|verb| ["", "dev", "prod"].map(|namespace| (*verb, namespace))) {
                let attributes = Attributes::resource(user, verb, "", "pods").in_namespace(namespace);
                prop_assert_eq!(index.authorize(&attributes).is_allowed(), model.allows(&attributes), "{:?}", attributes);
            }
        }
    }
}
