//! Roles and bindings, indexed by subject and kept current change by change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cloudeck_machinery::Value;

use super::cluster_roles::ClusterRoles;
use super::rule::PolicyRule;
use crate::attributes::{Attributes, Decision};
use crate::go_format::{aggregate, quoted};
use crate::user::{UserInfo, service_account_name};

/// Answers "which rules has this user here" by looking only at the bindings that name the user or one of its groups.
#[derive(Default)]
pub struct RbacIndex {
    cluster_roles: ClusterRoles,
    /// By namespace, then name.
    roles: HashMap<String, HashMap<String, Arc<[PolicyRule]>>>,
    cluster_bindings: Bindings,
    /// By namespace.
    bindings: HashMap<String, Bindings>,
}

/// What a binding refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// The role's name.
    pub name: String,
}

impl RoleRef {
    /// Reads `roleRef` of a binding.
    pub fn of(binding: &Value) -> Self {
        let text = |name| binding.str_at(&["roleRef", name]).unwrap_or_default().to_owned();
        Self {
            kind: text("kind"),
            name: text("name"),
        }
    }
}

struct Binding {
    name: String,
    /// Empty for a ClusterRoleBinding.
    namespace: String,
    role: RoleRef,
    subjects: Vec<Subject>,
}

struct Subject {
    kind: SubjectKind,
    /// The user or group that requests carry.
    id: String,
    /// How a reason describes it.
    description: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SubjectKind {
    User,
    Group,
}

/// The bindings of one scope. Those of one subject are ordered by name, so that reasons are stable.
#[derive(Default)]
struct Bindings {
    by_name: HashMap<String, Arc<Binding>>,
    by_user: HashMap<String, BTreeMap<String, Arc<Binding>>>,
    by_group: HashMap<String, BTreeMap<String, Arc<Binding>>>,
}

impl RbacIndex {
    /// Takes over the state of a ClusterRole; `None` after its deletion.
    pub fn set_cluster_role(&mut self, name: &str, role: Option<&Value>) {
        self.cluster_roles.set(name, role);
    }

    /// Takes over the state of a Role; `None` after its deletion.
    pub fn set_role(&mut self, namespace: &str, name: &str, role: Option<&Value>) {
        let Some(role) = role else {
            if let Some(roles) = self.roles.get_mut(namespace) {
                roles.remove(name);
                if roles.is_empty() {
                    self.roles.remove(namespace);
                }
            }
            return;
        };
        let roles = self.roles.entry(namespace.to_owned()).or_default();
        roles.insert(name.to_owned(), PolicyRule::all_of(role).into());
    }

    /// Takes over the state of a ClusterRoleBinding; `None` after its deletion.
    pub fn set_cluster_role_binding(&mut self, name: &str, binding: Option<&Value>) {
        self.cluster_bindings
            .set(name, binding.map(|tree| Binding::read("", name, tree)));
    }

    /// Takes over the state of a RoleBinding; `None` after its deletion.
    pub fn set_role_binding(&mut self, namespace: &str, name: &str, binding: Option<&Value>) {
        let bindings = self.bindings.entry(namespace.to_owned()).or_default();
        bindings.set(name, binding.map(|tree| Binding::read(namespace, name, tree)));
        if bindings.by_name.is_empty() {
            self.bindings.remove(namespace);
        }
    }

    /// Decides a request by the rules of its user.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let mut errors = Vec::new();
        let mut granted = None;
        self.visit(attributes.user, attributes.namespace, |binding| {
            match self.rules_of(&binding.role, &binding.namespace) {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    granted = Some(binding.describe(attributes.user));
                    return false;
                }
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
            true
        });
        match granted {
            Some(source) => Decision::allow(format!("RBAC: allowed by {source}")),
            None if errors.is_empty() => Decision::no_opinion(""),
            None => Decision::no_opinion(format!("RBAC: {}", aggregate(&errors))),
        }
    }

    /// All rules of `user` in `namespace`, and the roles that could not be found.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        let mut seen: Vec<*const Binding> = Vec::new();
        self.visit(user, namespace, |binding| {
            if seen.contains(&Arc::as_ptr(binding)) {
                return true;
            }
            seen.push(Arc::as_ptr(binding));
            match self.rules_of(&binding.role, &binding.namespace) {
                Ok(found) => rules.extend(found.iter().cloned()),
                Err(error) => errors.push(error),
            }
            true
        });
        (rules, errors)
    }

    /// The rules of the role that a binding in `namespace` (empty: a ClusterRoleBinding) refers to.
    ///
    /// # Errors
    /// The role does not exist; the text is upstream's.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<&Arc<[PolicyRule]>, String> {
        let name = &role.name;
        match role.kind.as_str() {
            "ClusterRole" => self
                .cluster_roles
                .rules(name)
                .ok_or_else(|| format!("clusterrole.rbac.authorization.k8s.io {} not found", quoted(name))),
            "Role" => self
                .roles
                .get(namespace)
                .and_then(|roles| roles.get(name))
                .ok_or_else(|| format!("role.rbac.authorization.k8s.io {} not found", quoted(name))),
            kind => Err(format!("unsupported role reference kind: {}", quoted(kind))),
        }
    }

    /// Shows every binding that applies, cluster-wide ones first, until `visitor` returns false. A binding that names
    /// the user in two ways may be shown twice.
    fn visit<'s>(
        &'s self,
        user: &UserInfo,
        namespace: &str,
        mut visitor: impl FnMut(&'s Arc<Binding>) -> bool,
    ) {
        let local = if namespace.is_empty() {
            None
        } else {
            self.bindings.get(namespace)
        };
        for bindings in [Some(&self.cluster_bindings), local].into_iter().flatten() {
            let of_user = bindings.by_user.get(&user.name);
            let of_groups = user
                .groups
                .iter()
                .filter_map(|group| bindings.by_group.get(group));
            for binding in of_user.into_iter().chain(of_groups).flat_map(BTreeMap::values) {
                if !visitor(binding) {
                    return;
                }
            }
        }
    }
}

impl Bindings {
    fn set(&mut self, name: &str, binding: Option<Binding>) {
        if let Some(old) = self.by_name.remove(name) {
            for subject in &old.subjects {
                let table = self.table(subject.kind);
                if let Some(named) = table.get_mut(&subject.id) {
                    named.remove(name);
                    if named.is_empty() {
                        table.remove(&subject.id);
                    }
                }
            }
        }
        let Some(binding) = binding.map(Arc::new) else {
            return;
        };
        for subject in &binding.subjects {
            let named = self.table(subject.kind).entry(subject.id.clone()).or_default();
            named.insert(name.to_owned(), binding.clone());
        }
        self.by_name.insert(name.to_owned(), binding);
    }

    fn table(&mut self, kind: SubjectKind) -> &mut HashMap<String, BTreeMap<String, Arc<Binding>>> {
        match kind {
            SubjectKind::User => &mut self.by_user,
            SubjectKind::Group => &mut self.by_group,
        }
    }
}

impl Binding {
    fn read(namespace: &str, name: &str, tree: &Value) -> Self {
        let subjects = tree.items_at(&["subjects"]).iter();
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            role: RoleRef::of(tree),
            subjects: subjects
                .filter_map(|subject| Subject::read(subject, namespace))
                .collect(),
        }
    }

    /// For a reason: the binding, its role, and the first subject that is `user`.
    fn describe(&self, user: &UserInfo) -> String {
        let subject = self.subjects.iter().find(|subject| match subject.kind {
            SubjectKind::User => subject.id == user.name,
            SubjectKind::Group => user.is_in(&subject.id),
        });
        let subject = subject.map_or("", |subject| subject.description.as_str());
        let role = format!("{} {}", self.role.kind, quoted(&self.role.name));
        if self.namespace.is_empty() {
            return format!("ClusterRoleBinding {} of {role} to {subject}", quoted(&self.name));
        }
        let name = quoted(&format!("{}/{}", self.name, self.namespace));
        format!("RoleBinding {name} of {role} to {subject}")
    }
}

impl Subject {
    /// `None` for a kind that never applies, and for a service account of no namespace.
    fn read(tree: &Value, binding_namespace: &str) -> Option<Self> {
        let text = |name| tree.str_at(&[name]).unwrap_or_default();
        let name = text("name");
        let named = |kind, word: &str| Self {
            kind,
            id: name.to_owned(),
            description: format!("{word} {}", quoted(name)),
        };
        match text("kind") {
            "User" => Some(named(SubjectKind::User, "User")),
            "Group" => Some(named(SubjectKind::Group, "Group")),
            "ServiceAccount" => {
                let namespace = Some(text("namespace"))
                    .filter(|n| !n.is_empty())
                    .unwrap_or(binding_namespace);
                (!namespace.is_empty()).then(|| Self {
                    kind: SubjectKind::User,
                    id: service_account_name(namespace, name),
                    description: format!("ServiceAccount {}", quoted(&format!("{name}/{namespace}"))),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
