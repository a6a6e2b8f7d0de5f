//! Rows of namespaces, accounts, leases, priority classes and signing requests.

use cloudeck_machinery::Value;
use cloudeck_machinery::time::duration::human;

use crate::table::{self, AGE, Column, NAME, TableRow, text, typed};

pub(super) const NAMESPACE: &[Column] = &[NAME, text("Status", "The status of the namespace"), AGE];

pub(super) const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(super) const LEASE: &[Column] = &[NAME, text("Holder", "Who holds the lease."), AGE];

pub(super) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    typed("Value", "integer", "The priority of pods of this class."),
    typed(
        "Global-Default",
        "boolean",
        "Whether pods that name no class are of this one.",
    ),
    AGE,
    text(
        "PreemptionPolicy",
        "Whether pods of this class may preempt others.",
    ),
];

pub(super) const SIGNING_REQUEST: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", "Who is asked to sign."),
    text("Requestor", "Who asks."),
    text("RequestedDuration", "How long the certificate should hold."),
    text("Condition", "What became of the request."),
];

pub(super) fn namespace(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let phase = table::string(object, &["status", "phase"]);
    vec![table::name(object), phase, table::age(object, row)]
}

pub(super) fn name_and_age(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    vec![table::name(object), table::age(object, row)]
}

pub(super) fn lease(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let holder = table::string(object, &["spec", "holderIdentity"]);
    vec![table::name(object), holder, table::age(object, row)]
}

pub(super) fn priority_class(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    vec![
        table::name(object),
        table::integer(object, &["value"]),
        Value::from(object.bool_at(&["globalDefault"]) == Some(true)),
        table::age(object, row),
        table::string(object, &["preemptionPolicy"]),
    ]
}

pub(super) fn signing_request(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let lasting = object.int_at(&["spec", "expirationSeconds"]);
    vec![
        table::name(object),
        table::age(object, row),
        table::string_or(object, &["spec", "signerName"], "<none>"),
        table::string(object, &["spec", "username"]),
        Value::from(lasting.map_or_else(|| "<none>".to_owned(), human)),
        Value::from(request_status(object)),
    ]
}

fn request_status(object: &Value) -> String {
    let has = |kind: &str| {
        let conditions = object.items_at(&["status", "conditions"]);
        conditions
            .iter()
            .any(|condition| condition.str_at(&["type"]) == Some(kind))
    };
    let mut status = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    let certificate = object.str_at(&["status", "certificate"]).unwrap_or_default();
    if !certificate.is_empty() {
        status.push_str(",Issued");
    }
    status
}
