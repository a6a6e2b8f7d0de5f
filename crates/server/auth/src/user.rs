//! Users, their groups, and the names of the system's own identities.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_machinery::{Map, Value};

/// Well-known groups.
pub mod groups {
    /// Members may do anything; no role binding can lock them out.
    pub const MASTERS: &str = "system:masters";
    /// Every node agent.
    pub const NODES: &str = "system:nodes";
    /// Everybody who showed a credential.
    pub const AUTHENTICATED: &str = "system:authenticated";
    /// Everybody who did not.
    pub const UNAUTHENTICATED: &str = "system:unauthenticated";
    /// Every service account.
    pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
}

/// The name of those who showed no credential.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
const NODE_PREFIX: &str = "system:node:";

/// Who a request comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name that role bindings use.
    pub name: String,
    /// Tells users of the same name apart; often empty.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user without groups.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// A request without credentials.
    pub fn anonymous() -> Self {
        Self {
            groups: vec![groups::UNAUTHENTICATED.to_owned()],
            ..Self::named(ANONYMOUS)
        }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: service_account_name(namespace, name),
            uid: uid.to_owned(),
            groups: service_account_groups(namespace).to_vec(),
            extra: BTreeMap::new(),
        }
    }

    /// Whether the user is in `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }

    /// The node whose agent this is. `Some("")` if it claims to be a node agent without saying which.
    pub fn node_name(&self) -> Option<&str> {
        self.name
            .strip_prefix(NODE_PREFIX)
            .filter(|_| self.is_in(groups::NODES))
    }

    /// Namespace and name, if this is a service account.
    pub fn service_account_key(&self) -> Option<(&str, &str)> {
        split_service_account(&self.name)
    }

    /// Whether nobody vouched for it.
    pub fn is_unauthenticated(&self) -> bool {
        self.is_in(groups::UNAUTHENTICATED)
    }

    /// Adds `system:authenticated`, as every authenticator but the anonymous does.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if self.name != ANONYMOUS
            && !self.is_in(groups::AUTHENTICATED)
            && !self.is_in(groups::UNAUTHENTICATED)
        {
            self.groups.push(groups::AUTHENTICATED.to_owned());
        }
        self
    }

    /// The `UserInfo` of `authentication.k8s.io/v1`.
    pub fn to_value(&self) -> Value {
        let strings =
            |items: &[String]| Value::Array(items.iter().map(|item| item.as_str().into()).collect());
        let mut map = Map::new();
        if !self.name.is_empty() {
            map.insert("username", self.name.as_str().into());
        }
        if !self.uid.is_empty() {
            map.insert("uid", self.uid.as_str().into());
        }
        if !self.groups.is_empty() {
            map.insert("groups", strings(&self.groups));
        }
        if !self.extra.is_empty() {
            let extra: Map = self
                .extra
                .iter()
                .map(|(key, values)| (key.as_str(), strings(values)))
                .collect();
            map.insert("extra", extra.into());
        }
        Value::Object(map)
    }
}

/// `system:serviceaccount:NAMESPACE:NAME`.
pub(crate) fn service_account_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

pub(crate) fn service_account_groups(namespace: &str) -> [String; 2] {
    [
        groups::SERVICE_ACCOUNTS.to_owned(),
        format!("{}:{namespace}", groups::SERVICE_ACCOUNTS),
    ]
}

/// The inverse of [`service_account_name`].
pub(crate) fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The identity of a component inside this process. No network request can make one: requests only ever yield a
/// [`UserInfo`], and there is no way from that to this.
#[derive(Debug, Clone)]
pub struct LocalIdentity {
    user: Arc<UserInfo>,
}

impl LocalIdentity {
    /// A control-plane component: `system:kube-scheduler`.
    pub fn component(name: &str) -> Self {
        Self::new(UserInfo::named(name))
    }

    /// The agent of a node.
    pub fn node(name: &str) -> Self {
        let mut user = UserInfo::named(&format!("{NODE_PREFIX}{name}"));
        user.groups.push(groups::NODES.to_owned());
        Self::new(user)
    }

    /// A controller under its service account in `kube-system`.
    pub fn controller(service_account: &str) -> Self {
        Self::new(UserInfo::service_account("kube-system", service_account, ""))
    }

    /// The API server itself, a member of `system:masters`.
    pub fn api_server() -> Self {
        let mut user = UserInfo::named("system:apiserver");
        user.groups.push(groups::MASTERS.to_owned());
        Self::new(user)
    }

    fn new(user: UserInfo) -> Self {
        Self {
            user: Arc::new(user.authenticated()),
        }
    }

    /// The user that authorisation, admission and audit see.
    pub fn user(&self) -> &Arc<UserInfo> {
        &self.user
    }
}
