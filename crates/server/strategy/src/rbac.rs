//! Roles and their bindings.

mod validate;

use cloudeck_machinery::Value;

use crate::table::{self, AGE, Column, NAME, TableRow, text, wide};
use crate::{Strategy, fill};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) const ROLE: Strategy = Strategy {
    validate_create: validate::role,
    validate_update: |new, _| validate::role(new),
    ..Strategy::GENERIC
};

pub(crate) const CLUSTER_ROLE: Strategy = Strategy {
    validate_create: validate::cluster_role,
    validate_update: |new, _| validate::cluster_role(new),
    ..Strategy::GENERIC
};

pub(crate) const ROLE_BINDING: Strategy = Strategy {
    default: binding_defaults,
    validate_create: validate::role_binding,
    validate_update: validate::role_binding_update,
    columns: BINDING_COLUMNS,
    row: binding_row,
    ..Strategy::GENERIC
};

pub(crate) const CLUSTER_ROLE_BINDING: Strategy = Strategy {
    default: binding_defaults,
    validate_create: validate::cluster_role_binding,
    validate_update: validate::cluster_role_binding_update,
    columns: BINDING_COLUMNS,
    row: binding_row,
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

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    text("Role", "The role that is granted."),
    AGE,
    wide("Users", "Users in the roleBinding"),
    wide("Groups", "Groups in the roleBinding"),
    wide("ServiceAccounts", "ServiceAccounts in the roleBinding"),
];

fn binding_row(binding: &Value, row: TableRow<'_>) -> Vec<Value> {
    let role = |key| binding.str_at(&["roleRef", key]).unwrap_or_default();
    let subjects = |kind: &str| -> Value {
        let of_kind = binding.items_at(&["subjects"]).iter();
        let names: Vec<String> = of_kind
            .filter(|subject| subject.str_at(&["kind"]) == Some(kind))
            .map(|subject| {
                let text = |key| subject.str_at(&[key]).unwrap_or_default();
                if kind == "ServiceAccount" {
                    format!("{}/{}", text("namespace"), text("name"))
                } else {
                    text("name").to_owned()
                }
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![
        table::name(binding),
        Value::from(format!("{}/{}", role("kind"), role("name"))),
        table::age(binding, row),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}
