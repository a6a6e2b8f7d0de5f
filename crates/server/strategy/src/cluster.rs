//! Small kinds that the cluster itself runs on: namespaces, accounts, leases, priority classes.

pub(crate) mod api_service;
pub(crate) mod event;
mod event_row;
mod namespace;
mod row;
mod signing_request;
pub mod strict_event;
mod validate;

pub(crate) use signing_request::signer_name;

use cloudeck_machinery::{Value, value};
use compact_str::CompactString;

use crate::{Strategy, fill};

pub(crate) const NAMESPACE: Strategy = Strategy {
    default: namespace::defaults,
    prepare_create: namespace::prepare_create,
    prepare_update: namespace::prepare_update,
    field_names: &["status.phase"],
    fields: |namespace| {
        let phase = namespace.str_at(&["status", "phase"]).unwrap_or_default();
        Box::new([("status.phase", CompactString::from(phase))])
    },
    validate_create: validate::namespace,
    validate_update: |new, _| validate::namespace(new),
    validate_status_update: validate::namespace_status,
    columns: row::NAMESPACE,
    row: row::namespace,
    ..Strategy::GENERIC
};

pub(crate) const SERVICE_ACCOUNT: Strategy = Strategy {
    prepare_create: keep_secret_names,
    prepare_update: |new, _| keep_secret_names(new),
    warnings: account_warnings,
    columns: row::NAME_AND_AGE,
    row: row::name_and_age,
    ..Strategy::GENERIC
};

pub(crate) const LEASE: Strategy = Strategy {
    validate_create: validate::lease,
    validate_update: |new, _| validate::lease(new),
    columns: row::LEASE,
    row: row::lease,
    ..Strategy::GENERIC
};

pub(crate) const PRIORITY_CLASS: Strategy = Strategy {
    default: |class| fill::absent(class, "preemptionPolicy", || "PreemptLowerPriority".into()),
    validate_create: validate::priority_class,
    validate_update: validate::priority_class_update,
    columns: row::PRIORITY_CLASS,
    row: row::priority_class,
    ..Strategy::GENERIC
};

pub(crate) const SIGNING_REQUEST: Strategy = Strategy {
    field_names: &["spec.signerName"],
    fields: |request| {
        let signer = request.str_at(&["spec", "signerName"]).unwrap_or_default();
        Box::new([("spec.signerName", CompactString::from(signer))])
    },
    prepare_update: |new, old| {
        // All but metadata is fixed, or changes through subresources.
        match old.get("spec") {
            Some(spec) => new.set_at(&["spec"], spec.clone()),
            None => new.remove_at(&["spec"]).is_some(),
        };
    },
    validate_create: signing_request::create,
    validate_status_update: signing_request::status,
    columns: row::SIGNING_REQUEST,
    row: row::signing_request,
    ..Strategy::GENERIC
};

/// Of the references to secrets only the names are kept.
fn keep_secret_names(account: &mut Value) {
    for secret in fill::each(account, "secrets") {
        let name = secret.str_at(&["name"]).unwrap_or_default();
        *secret = value!({"name": (name)});
    }
}

fn account_warnings(account: &Value, old: Option<&Value>) -> Vec<String> {
    const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
    let has = |account: &Value| account.at(&["metadata", "annotations", ENFORCE]).is_some();
    if old.is_some_and(has) || !has(account) {
        return Vec::new();
    }
    let why = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
    vec![format!("metadata.annotations[{ENFORCE}]: {why}")]
}
