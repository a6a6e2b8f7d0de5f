//! Endpoints, their slices, and the kinds of the networking group.

pub(crate) mod endpoints;
mod ingress;
mod policy;
pub(crate) mod ranges;
mod row;
pub(crate) mod slice;
mod validate;

use cloudeck_machinery::{Value, value};

pub(crate) use validate::endpoint_ip;

use crate::{Strategy, fill};

pub(crate) const INGRESS: Strategy = Strategy {
    validate_create: ingress::create,
    validate_update: ingress::update,
    validate_status_update: ingress::status_update,
    warnings: ingress::warnings,
    columns: row::INGRESS,
    row: row::ingress,
    ..Strategy::GENERIC
};

pub(crate) const INGRESS_CLASS: Strategy = Strategy {
    default: |class| {
        let parameters = fill::member(class, "spec").and_then(|spec| fill::member(spec, "parameters"));
        if let Some(parameters) = parameters {
            fill::absent(parameters, "scope", || "Cluster".into());
        }
    },
    validate_create: ingress::class,
    validate_update: ingress::class_update,
    columns: row::CLASS,
    row: row::class,
    ..Strategy::GENERIC
};

pub(crate) const NETWORK_POLICY: Strategy = Strategy {
    default: policy_defaults,
    validate_create: policy::create,
    validate_update: policy::update,
    warnings: policy::warnings,
    columns: row::POLICY,
    row: row::policy,
    ..Strategy::GENERIC
};

/// Source: `SetDefaults_NetworkPolicy`.
fn policy_defaults(policy: &mut Value) {
    let Some(spec) = fill::made(policy, "spec") else {
        return;
    };
    if spec.items_at(&["policyTypes"]).is_empty() {
        let types = if spec.items_at(&["egress"]).is_empty() {
            value!(["Ingress"])
        } else {
            value!(["Ingress", "Egress"])
        };
        spec.set_at(&["policyTypes"], types);
    }
    for direction in ["ingress", "egress"] {
        for rule in fill::each(spec, direction) {
            for port in fill::each(rule, "ports") {
                fill::absent(port, "protocol", || "TCP".into());
            }
        }
    }
}
