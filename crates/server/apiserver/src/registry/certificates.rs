//! Certificate signing requests: who asked is the server's to say, and when conditions changed.
//!
//! Source: `pkg/registry/certificates/certificates/strategy.go`.

use cloudeck_machinery::{Cause, CauseType, Map, Value};

use super::Call;
use crate::kinds::Kind;

/// Writes down who asks, whatever the request says.
pub(crate) fn requested(call: &Call<'_>, tree: &mut Value) {
    if !is_request(call.kind()) {
        return;
    }
    let user = call.user;
    let Some(spec) = tree.ensure_object(&["spec"]) else {
        return;
    };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username", user.name.as_str().into());
    if !user.uid.is_empty() {
        spec.insert("uid", user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups", list(&user.groups));
    }
    if !user.extra.is_empty() {
        let mut extra = Map::new();
        for (key, values) in &user.extra {
            extra.insert(key.as_str(), list(values));
        }
        spec.insert("extra", Value::Object(extra));
    }
}

fn list(texts: &[String]) -> Value {
    Value::from(
        texts
            .iter()
            .map(|text| Value::from(text.as_str()))
            .collect::<Vec<_>>(),
    )
}

fn is_request(kind: &Kind) -> bool {
    kind.is("certificates.k8s.io", "certificatesigningrequests")
}

/// What is wrong with the request itself, which only its signature tells.
pub(crate) fn check_create(kind: &Kind, tree: &Value) -> Option<Cause> {
    use base64::Engine as _;
    if !is_request(kind) {
        return None;
    }
    let text = tree.str_at(&["spec", "request"]).unwrap_or_default();
    let pem = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap_or_default();
    let error = cloudeck_pki::SigningRequest::from_pem(&pem).err()?;
    Some(Cause {
        cause: CauseType::Invalid,
        message: format!("Invalid value: {text:?}: {error}"),
        field: "spec.request".into(),
    })
}

/// Settles an update through `/status` or `/approval`: the other part stays, and new conditions get their times.
pub(crate) fn prepare_update(call: &Call<'_>, new: &mut Value, old: &Value) {
    if !is_request(call.kind()) {
        return;
    }
    match call.request.subresource.as_str() {
        "approval" => {
            stamp(new, old, &call.core.clock.timestamp());
            let conditions = new.at(&["status", "conditions"]).cloned();
            let mut status = old.at(&["status"]).cloned().unwrap_or_else(Value::object);
            match conditions {
                Some(conditions) => status.set_at(&["conditions"], conditions),
                None => status.remove_at(&["conditions"]).is_some(),
            };
            new.set_at(&["status"], status);
        }
        "status" => {
            for kind in ["Approved", "Denied"] {
                preserve(new, old, kind);
            }
            stamp(new, old, &call.core.clock.timestamp());
        }
        _ => {}
    }
}

fn conditions<'a>(tree: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = tree.items_at(&["status", "conditions"]).iter();
    all.filter(move |condition| condition.str_at(&["type"]) == Some(kind))
}

/// Keeps the conditions of a type as they were, unless some came or went.
fn preserve(new: &mut Value, old: &Value, kind: &str) {
    if conditions(new, kind).count() != conditions(old, kind).count() {
        return;
    }
    let Some(all) = new
        .at_mut(&["status", "conditions"])
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let own = all
        .iter_mut()
        .filter(|condition| condition.str_at(&["type"]) == Some(kind));
    for (own, before) in own.zip(conditions(old, kind)) {
        *own = before.clone();
    }
}

fn stamp(new: &mut Value, old: &Value, now: &str) {
    let Some(all) = new
        .at_mut(&["status", "conditions"])
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    for condition in all {
        if condition.str_at(&["lastUpdateTime"]).is_none() {
            condition.set_at(&["lastUpdateTime"], now);
        }
        if condition.str_at(&["lastTransitionTime"]).is_some() {
            continue;
        }
        let kind = condition.str_at(&["type"]).unwrap_or_default();
        let status = condition.str_at(&["status"]);
        let since = conditions(old, kind)
            .filter(|before| before.str_at(&["status"]) == status)
            .find_map(|before| before.str_at(&["lastTransitionTime"]));
        let since = since.unwrap_or(now).to_owned();
        condition.set_at(&["lastTransitionTime"], since);
    }
}

/// What an update may not do to the decision and the certificate.
pub(crate) fn check_update(call: &Call<'_>, new: &Value, old: &Value) -> Vec<Cause> {
    if !is_request(call.kind()) {
        return Vec::new();
    }
    let subresource = call.request.subresource.as_str();
    let forbidden = |field: &str, why: String| Cause {
        cause: CauseType::Forbidden,
        message: format!("Forbidden: {why}"),
        field: field.to_owned(),
    };
    let mut causes = Vec::new();
    for kind in ["Approved", "Denied", "Failed"] {
        let (now, before) = (conditions(new, kind).count(), conditions(old, kind).count());
        let decides = kind != "Failed" && subresource != "approval";
        if now < before {
            let why = format!("updates may not remove a condition of type {kind:?}");
            causes.push(forbidden("status.conditions", why));
        } else if now > before && decides {
            let why = format!("updates may not add a condition of type {kind:?}");
            causes.push(forbidden("status.conditions", why));
        }
    }
    let certificate = |tree: &Value| tree.str_at(&["status", "certificate"]).map(str::to_owned);
    let (now, before) = (certificate(new), certificate(old));
    if now != before {
        if subresource != "status" {
            let why = "updates may not set certificate content".to_owned();
            causes.push(forbidden("status.certificate", why));
        } else if before.is_some() {
            let why = "updates may not modify existing certificate content".to_owned();
            causes.push(forbidden("status.certificate", why));
        }
    }
    causes
}
