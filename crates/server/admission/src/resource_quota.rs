//! ResourceQuota: what a write costs its namespace's quotas, and whether they have it.
//!
//! Upstream writes the new usage into the quotas' status before the object is stored. Here the server stores both in one
//! transaction, so a [`Charge`] is an answer instead of an action. What is given back is counted by a controller, which
//! also puts `status.hard` there: a quota without it bounds nothing yet. What counts is told by [`cloudeck_kinds::quota`].
//!
//! Source: `k8s.io/apiserver/pkg/admission/plugin/resourcequota`, `pkg/quota/v1/evaluator/core`. Absent: claims of devices.

mod demand;

use std::sync::Arc;

use cloudeck_kinds::amounts::{self, Amounts};
use cloudeck_kinds::quota::{self, Scopes};
use cloudeck_machinery::{MicroTime, Object, Quantity, Value};
use compact_str::CompactString;

use crate::{AdmissionRequest, Context, Operation, Refusal};

/// What quotas never count: events, and what is never stored.
const IGNORED: [&str; 4] = ["events", "bindings", "componentstatuses", "namespaces"];

/// The new usage of a quota.
#[derive(Debug, Clone)]
pub struct Charge {
    /// The quota as it was read.
    pub quota: Arc<Object>,
    /// Its `status.used` once the write is done.
    pub used: Value,
}

/// Refuses what a quota has not left, or answers the new usage of every quota that the write costs something.
///
/// # Errors
/// 403 with upstream's words.
pub fn charge(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    now: MicroTime,
) -> Result<Vec<Charge>, Refusal> {
    if request.namespace.is_empty() || IGNORED.contains(&request.resource) || !handles(request) {
        return Ok(Vec::new());
    }
    let quotas = context.reader.list("", "resourcequotas", request.namespace);
    let mut charges = Vec::new();
    for quota in quotas {
        let tree = quota.tree();
        if let Some(used) = charge_one(request, &quota.key.name, &tree, now)? {
            charges.push(Charge { quota, used });
        }
    }
    Ok(charges)
}

/// Whether the operation can cost anything.
fn handles(request: &AdmissionRequest<'_>) -> bool {
    let (creates, updates) = (
        request.operation == Operation::Create,
        request.operation == Operation::Update,
    );
    match (request.group, request.resource, request.subresource) {
        ("", "pods", "resize") => updates,
        ("", "pods", "") if updates => {
            let ends = quota::has_deadline;
            request.old.is_some_and(|old| ends(old) != ends(&request.object))
        }
        ("", "services" | "persistentvolumeclaims", "") => creates || updates,
        (_, _, "") => creates,
        _ => false,
    }
}

/// The usage afterwards; `None` when the write costs this quota nothing.
fn charge_one(
    request: &AdmissionRequest<'_>,
    name: &str,
    quota: &Value,
    now: MicroTime,
) -> Result<Option<Value>, Refusal> {
    let (group, plural) = (request.group, request.resource);
    let hard = amounts::read(quota.at(&["status", "hard"]));
    let bounded: Vec<&str> = hard
        .keys()
        .map(CompactString::as_str)
        .filter(|resource| quota::counts(group, plural, resource))
        .collect();
    let scopes = Scopes::of(quota);
    if bounded.is_empty() || !scopes.hold(group, plural, &request.object) {
        return Ok(None);
    }
    if request.is_for("", "pods")
        && let Some(missing) = demand::missing(&request.object, &bounded)
    {
        return Err(request.forbid(format!("failed quota: {name}: must specify {missing}")));
    }
    let used = amounts::read(quota.at(&["status", "used"]));
    if bounded.iter().any(|resource| !used.contains_key(*resource)) {
        let list = bounded.join(",");
        return Err(request.forbid(format!("status unknown for quota: {name}, resources: {list}")));
    }
    let mut cost = quota::used_by(group, plural, &request.object, now);
    let negative: Vec<&str> = cost
        .iter()
        .filter(|(_, amount)| amount.is_negative())
        .map(|(resource, _)| resource.as_str())
        .collect();
    if !negative.is_empty() {
        let list = negative.join(",");
        return Err(request.forbid(format!("quota usage is negative for resource(s): {list}")));
    }
    if let Some(old) = request.old.filter(|old| scopes.hold(group, plural, old)) {
        subtract(&mut cost, &quota::used_by(group, plural, old, now));
    }
    cost.retain(|resource, amount| !amount.is_zero() && hard.contains_key(resource));
    if cost.is_empty() {
        return Ok(None);
    }
    let mut total = used.clone();
    amounts::add(&mut total, &cost);
    let exceeded: Vec<&str> = cost
        .keys()
        .map(CompactString::as_str)
        .filter(|resource| total[*resource] > hard[*resource])
        .collect();
    if exceeded.is_empty() {
        return Ok(Some(amounts::to_value(&total)));
    }
    let of = |amounts: &Amounts| print(amounts, &exceeded);
    let (requested, used, limited) = (of(&cost), of(&used), of(&hard));
    Err(request.forbid(format!(
        "exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"
    )))
}

/// What was paid for before; less than nothing is nothing.
fn subtract(cost: &mut Amounts, paid: &Amounts) {
    for (resource, amount) in cost {
        if let Some(paid) = paid.get(resource) {
            *amount = (*amount - *paid).max(Quantity::ZERO);
        }
    }
}

/// `pods=1,requests.cpu=2`.
fn print(amounts: &Amounts, resources: &[&str]) -> String {
    let parts: Vec<String> = resources
        .iter()
        .filter_map(|resource| Some(format!("{resource}={}", amounts.get(*resource)?)))
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests;
