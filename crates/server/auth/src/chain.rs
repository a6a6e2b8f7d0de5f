//! The cluster's authoriser: masters, then nodes, then roles.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use cloudeck_machinery::Value;

use crate::attributes::{Attributes, Authorizer, Decision};
use crate::node::{self, Kind, NodeGraph, Reference};
use crate::rbac::{GrantCheck, GrantError, PolicyRule, RbacIndex, check_grant};
use crate::user::{UserInfo, groups};

/// Decides by what it has been shown. Shared by reference; a question takes a read lock for microseconds.
///
/// Whoever commits writes calls [`ClusterAuthorizer::observe`] for each before it is acknowledged, so that a grant
/// works as soon as its writer hears of it.
pub struct ClusterAuthorizer {
    state: RwLock<State>,
    /// The rules that every node has.
    node_rules: Vec<PolicyRule>,
}

#[derive(Default)]
struct State {
    rbac: RbacIndex,
    graph: NodeGraph,
}

/// Resources whose changes the authoriser must see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// `roles`
    Role,
    /// `clusterroles`
    ClusterRole,
    /// `rolebindings`
    RoleBinding,
    /// `clusterrolebindings`
    ClusterRoleBinding,
    /// `pods`
    Pod,
    /// `persistentvolumes`
    PersistentVolume,
    /// `volumeattachments`
    VolumeAttachment,
    /// `resourceslices`
    ResourceSlice,
    /// `podcertificaterequests`
    PodCertificateRequest,
}

impl Watched {
    /// Whether changes of this resource matter.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        Some(match (group, resource) {
            ("", "pods") => Self::Pod,
            ("", "persistentvolumes") => Self::PersistentVolume,
            ("rbac.authorization.k8s.io", "roles") => Self::Role,
            ("rbac.authorization.k8s.io", "clusterroles") => Self::ClusterRole,
            ("rbac.authorization.k8s.io", "rolebindings") => Self::RoleBinding,
            ("rbac.authorization.k8s.io", "clusterrolebindings") => Self::ClusterRoleBinding,
            ("storage.k8s.io", "volumeattachments") => Self::VolumeAttachment,
            ("resource.k8s.io", "resourceslices") => Self::ResourceSlice,
            ("certificates.k8s.io", "podcertificaterequests") => Self::PodCertificateRequest,
            _ => return None,
        })
    }
}

impl ClusterAuthorizer {
    /// An authoriser that has seen no role yet: only masters and the common rules of nodes (those of the default
    /// ClusterRole `system:node`) count.
    pub fn new() -> Self {
        Self {
            state: RwLock::default(),
            node_rules: crate::bootstrap::node_rules(),
        }
    }

    /// Takes over the new state of an object; `None` after its deletion.
    pub fn observe(&self, watched: Watched, namespace: &str, name: &str, object: Option<&Value>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let State { rbac, graph } = &mut *state;
        let mut place = |kind| graph.set_placed(Reference::new(kind, namespace, name), object);
        match watched {
            Watched::VolumeAttachment => place(Kind::VolumeAttachment),
            Watched::ResourceSlice => place(Kind::ResourceSlice),
            Watched::PodCertificateRequest => place(Kind::PodCertificateRequest),
            Watched::Pod => graph.set_pod(namespace, name, object),
            Watched::PersistentVolume => graph.set_volume(name, object),
            Watched::Role => rbac.set_role(namespace, name, object),
            Watched::ClusterRole => rbac.set_cluster_role(name, object),
            Watched::RoleBinding => rbac.set_role_binding(namespace, name, object),
            Watched::ClusterRoleBinding => rbac.set_cluster_role_binding(name, object),
        }
    }

    /// Refuses a write to a role or binding that gives away what its writer lacks. Other resources pass.
    pub fn check_grant(&self, check: &GrantCheck<'_>) -> Result<(), GrantError> {
        let state = self.read();
        check_grant(
            check,
            &state.rbac,
            &Locked {
                state: &state,
                node_rules: &self.node_rules,
            },
        )
    }

    /// The rules of `user` in `namespace`, what could not be resolved, and whether there are rights beyond the rules.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>, bool) {
        let (mut rules, mut errors) = self.read().rbac.rules_for(user, namespace);
        if user.is_in(groups::MASTERS) {
            let all = || vec!["*".to_owned()];
            let resources = PolicyRule {
                verbs: all(),
                api_groups: all(),
                resources: all(),
                ..PolicyRule::default()
            };
            let paths = PolicyRule {
                verbs: all(),
                non_resource_urls: all(),
                ..PolicyRule::default()
            };
            rules.splice(0..0, [resources, paths]);
        }
        let is_node = user.node_name().is_some();
        if is_node {
            errors.insert(
                0,
                "node authorizer does not support user rule resolution".to_owned(),
            );
        }
        (rules, errors, is_node)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ClusterAuthorizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Authorizer for ClusterAuthorizer {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        Locked {
            state: &self.read(),
            node_rules: &self.node_rules,
        }
        .authorize(attributes)
    }
}

/// The authoriser while its state is held: a grant check asks several questions about one state.
struct Locked<'a> {
    state: &'a State,
    node_rules: &'a [PolicyRule],
}

impl Authorizer for Locked<'_> {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(groups::MASTERS) {
            return Decision::allow("");
        }
        let by_node = node::authorize(&self.state.graph, self.node_rules, attributes);
        if by_node.is_allowed() {
            return by_node;
        }
        let by_role = self.state.rbac.authorize(attributes);
        if by_role.is_allowed() || by_node.reason.is_empty() {
            return by_role;
        }
        if by_role.reason.is_empty() {
            return by_node;
        }
        Decision::no_opinion(format!("{}\n{}", by_node.reason, by_role.reason))
    }
}
