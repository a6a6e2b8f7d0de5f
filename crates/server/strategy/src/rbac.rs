//! Roles and their bindings.

use cloudeck_machinery::Value;

use crate::{Strategy, fill};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) const ROLE: Strategy = Strategy::GENERIC;

pub(crate) const CLUSTER_ROLE: Strategy = Strategy::GENERIC;

pub(crate) const ROLE_BINDING: Strategy = Strategy {
    default: binding_defaults,
    ..Strategy::GENERIC
};

pub(crate) const CLUSTER_ROLE_BINDING: Strategy = Strategy {
    default: binding_defaults,
    ..Strategy::GENERIC
};

fn binding_defaults(binding: &mut Value) {
    if let Some(role) = fill::made(binding, "roleRef") {
        fill::text(role, "apiGroup", GROUP);
    }
    for subject in fill::each(binding, "subjects") {
        if matches!(subject.str_at(&["kind"]), Some("User" | "Group")) {
            fill::text(subject, "apiGroup", GROUP);
        }
    }
}
