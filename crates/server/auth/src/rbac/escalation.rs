//! Nobody may grant what they do not have: checked when roles and bindings are written.

use std::collections::BTreeSet;

use cloudeck_machinery::{Status, Value};

use super::index::{RbacIndex, RoleRef};
use super::rule::{PolicyRule, compact, uncovered};
use crate::attributes::{Attributes, Authorizer};
use crate::go_format::{quoted, quoted_list};
use crate::user::{UserInfo, groups};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A write to a role or a binding.
#[derive(Clone, Copy)]
pub struct GrantCheck<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`.
    pub resource: &'a str,
    /// The namespace of the request; empty for cluster-wide kinds.
    pub namespace: &'a str,
    /// The name in the request's path; empty on create.
    pub name: &'a str,
    /// The stored object, on update.
    pub old: Option<&'a Value>,
    /// The object to be stored.
    pub new: &'a Value,
}

/// Why a grant is refused.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct GrantError(pub Box<Status>);

/// Refuses with upstream's 403 (or 404 for a binding to an unknown role) what would give away rights that the user
/// lacks. Other resources than the four of RBAC pass.
pub fn check_grant(
    check: &GrantCheck<'_>,
    index: &RbacIndex,
    authorizer: &dyn Authorizer,
) -> Result<(), GrantError> {
    let is_binding = match check.resource {
        "roles" | "clusterroles" => false,
        "rolebindings" | "clusterrolebindings" => true,
        _ => return Ok(()),
    };
    if check.user.is_in(groups::MASTERS)
        || check
            .old
            .is_some_and(|old| differs_for_collection_only(old, check.new))
    {
        return Ok(());
    }
    let refuse = |status| Err(GrantError(Box::new(status)));
    let granted: Vec<PolicyRule> = if is_binding {
        let role = RoleRef::of(check.new);
        if may_bind(check, &role, authorizer) {
            return Ok(());
        }
        if let Ok(rules) = index.rules_of(&role, check.namespace) {
            rules.to_vec()
        } else {
            let resource = if role.kind == "Role" {
                "roles"
            } else {
                "clusterroles"
            };
            return refuse(Status::not_found(GROUP, resource, &role.name));
        }
    } else {
        if may_escalate(check, authorizer) {
            return Ok(());
        }
        PolicyRule::all_of(check.new)
    };
    let (owned, errors) = index.rules_for(check.user, check.namespace);
    let name = check.new.str_at(&["metadata", "name"]).unwrap_or(check.name);
    let missing = uncovered(&owned, &granted);
    if !missing.is_empty() {
        let why = describe(check.user, missing, &errors);
        return refuse(Status::forbidden(GROUP, check.resource, name, &why));
    }
    // An aggregated role can gather anything, and hide from tightening.
    let aggregated = !is_binding && (is_aggregated(check.new) || check.old.is_some_and(is_aggregated));
    if aggregated && !has_everything(&owned) {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        return refuse(Status::forbidden(GROUP, check.resource, name, why));
    }
    Ok(())
}

fn describe(user: &UserInfo, missing: Vec<PolicyRule>, errors: &[String]) -> String {
    let lines: BTreeSet<String> = compact(missing).iter().map(PolicyRule::compact_string).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    let mut text = format!(
        "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        quoted(&user.name),
        quoted_list(&user.groups),
        lines.join("\n")
    );
    if !errors.is_empty() {
        text = format!("{text}; resolution errors: [{}]", errors.join(" "));
    }
    text
}

fn may_escalate(check: &GrantCheck<'_>, authorizer: &dyn Authorizer) -> bool {
    let question = Attributes::resource(check.user, "escalate", GROUP, check.resource);
    authorizer
        .authorize(&question.in_namespace(check.namespace).of(check.name))
        .is_allowed()
}

fn may_bind(check: &GrantCheck<'_>, role: &RoleRef, authorizer: &dyn Authorizer) -> bool {
    let resource = match role.kind.as_str() {
        "ClusterRole" => "clusterroles",
        "Role" => "roles",
        _ => return false,
    };
    let question = Attributes::resource(check.user, "bind", GROUP, resource);
    authorizer
        .authorize(&question.in_namespace(check.namespace).of(&role.name))
        .is_allowed()
}

fn is_aggregated(role: &Value) -> bool {
    !role
        .items_at(&["aggregationRule", "clusterRoleSelectors"])
        .is_empty()
}

fn has_everything(owned: &[PolicyRule]) -> bool {
    let all = || vec!["*".to_owned()];
    let everything = [
        PolicyRule {
            verbs: all(),
            api_groups: all(),
            resources: all(),
            ..PolicyRule::default()
        },
        PolicyRule {
            verbs: all(),
            non_resource_urls: all(),
            ..PolicyRule::default()
        },
    ];
    uncovered(owned, &everything).is_empty()
}

/// The garbage collector may drop finalizers and owner references of what it could not grant; so may who changes nothing.
fn differs_for_collection_only(old: &Value, new: &Value) -> bool {
    let stripped = |tree: &Value| {
        let mut tree = tree.clone();
        for field in [
            "ownerReferences",
            "finalizers",
            "managedFields",
            "resourceVersion",
        ] {
            tree.remove_at(&["metadata", field]);
        }
        tree
    };
    stripped(old) == stripped(new)
}

#[cfg(test)]
mod tests;
