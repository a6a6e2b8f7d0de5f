//! `POST …/pods/NAME/eviction`: a deletion that disruption budgets may forbid.
//!
//! Source: `pkg/registry/core/pod/storage/eviction.go`.

use std::sync::Arc;

use cloudeck_client::Response;
use cloudeck_machinery::selector::LabelSelector;
use cloudeck_machinery::{Cause, CauseType, Object, ObjectKey, Reason, Status, Value, value};

use super::{body, created};
use crate::registry::commit::Retries;
use crate::registry::delete::{self, DeleteOptions};
use crate::registry::warnings::Warnings;
use crate::registry::{Call, update};

/// So many evictions may be unknown to the budget's controller.
const MOST_UNCONFIRMED: usize = 2000;

pub(super) async fn evict(call: &mut Call<'_>) -> Result<Response, Status> {
    let (eviction, _) = body(call, "policy/v1", "Eviction")?;
    let named = eviction.str_at(&["metadata", "name"]).unwrap_or_default();
    if !named.is_empty() && named != call.request.name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let options = eviction
        .get("deleteOptions")
        .map(DeleteOptions::from_tree)
        .unwrap_or_default();
    let insists = options.resource_version.is_some();
    let retries = Retries::begin();
    let pod = loop {
        let pod = call.current()?;
        let tree = pod.tree();
        if !is_disrupted_already(&tree) {
            break pod;
        }
        // A pod that is only pending may become ready meanwhile, and then its budget counts.
        let seen = if is_over(&tree) || insists {
            options.clone()
        } else {
            options.only_at(pod.revision)
        };
        match remove(call, &seen).await {
            Err(status) if status.reason == Reason::Conflict && !insists && has_changed(call, &pod)? => {
                retries.next()?;
            }
            other => return other.map(|()| created()),
        }
    };
    let spared_by = spend_budget(call, &pod, options.is_dry_run() || call.is_dry_run()).await?;
    let Some(budget) = spared_by.filter(|_| !insists) else {
        return remove(call, &options).await.map(|()| created());
    };
    match remove(call, &options.only_at(pod.revision)).await {
        Err(status) if status.reason == Reason::Conflict => Err(busy(&budget)),
        other => other.map(|()| created()),
    }
}

fn has_changed(call: &Call<'_>, pod: &Object) -> Result<bool, Status> {
    call.current().map(|present| present.revision != pod.revision)
}

/// Tells the pod's owner why it ends, and deletes the pod, if it is as `options` want it.
async fn remove(call: &Call<'_>, options: &DeleteOptions) -> Result<(), Status> {
    let mut options = options.clone();
    if !options.is_dry_run() && !call.is_dry_run() {
        let marked = mark(call, &options).await?;
        if options.resource_version.is_some() {
            options = options.only_at(marked.revision);
        }
    }
    let mut plain = call.request.clone();
    plain.subresource.clear();
    let mut deletion = Call {
        core: call.core,
        user: call.user,
        agent: call.agent,
        request: &plain,
        view: call.view,
        warnings: Warnings::default(),
    };
    delete::delete_with(&mut deletion, &options).await
}

/// A pod that does not serve yet, or no longer, is nobody's loss.
fn is_disrupted_already(pod: &Value) -> bool {
    is_over(pod) || pod.str_at(&["status", "phase"]) == Some("Pending")
}

/// A pod that will never serve again.
fn is_over(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"))
        || pod.at(&["metadata", "deletionTimestamp"]).is_some()
}

async fn mark(call: &Call<'_>, options: &DeleteOptions) -> Result<Arc<Object>, Status> {
    let now = call.core.clock.timestamp();
    let key = ObjectKey::new(&call.request.namespace, &call.request.name);
    update::edit(call.core, call.kind(), &key, |pod| {
        check_preconditions(options, pod)?;
        let mut conditions = pod.items_at(&["status", "conditions"]).to_vec();
        let known = conditions.iter().any(|condition| {
            condition.str_at(&["type"]) == Some("DisruptionTarget")
                && condition.str_at(&["reason"]) == Some("EvictionByEvictionAPI")
        });
        if known {
            return Ok(());
        }
        conditions.retain(|condition| condition.str_at(&["type"]) != Some("DisruptionTarget"));
        conditions.push(value!({
            "type": "DisruptionTarget", "status": "True", "lastProbeTime": null, "lastTransitionTime": (now.as_str()),
            "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"
        }));
        pod.set_at(&["status", "conditions"], conditions);
        Ok(())
    })
    .await
}

/// Whether the pod is the one that is meant, in upstream's words.
fn check_preconditions(options: &DeleteOptions, pod: &Value) -> Result<(), Status> {
    let meta = |field| pod.str_at(&["metadata", field]).unwrap_or_default();
    let conflict = |why: String| Err(Status::conflict("", "Pod", meta("name"), &why));
    let differs = |wanted: &Option<String>, found: &str| {
        let wanted = wanted.as_ref().filter(|wanted| !wanted.is_empty())?;
        (wanted != found).then(|| wanted.clone())
    };
    if let Some(uid) = differs(&options.uid, meta("uid")) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            meta("uid")
        ));
    }
    if let Some(version) = differs(&options.resource_version, meta("resourceVersion")) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            meta("resourceVersion")
        ));
    }
    Ok(())
}

/// Takes one disruption from the budget that covers the pod, if one does. Answers the budget's name instead if it lets
/// the pod go for nothing, which holds for the pod as it is now only.
async fn spend_budget(call: &Call<'_>, pod: &Object, dry_run: bool) -> Result<Option<String>, Status> {
    let core = call.core;
    let kind = core.stored("policy", "poddisruptionbudgets");
    let (budgets, _) = kind
        .cache
        .snapshot(&pod.key.namespace, &core.frontier, None, usize::MAX, |_| true);
    let covers = |budget: &Arc<Object>| {
        let selector = LabelSelector::from_value(budget.tree().at(&["spec", "selector"]))
            .unwrap_or_else(|_| LabelSelector::nothing());
        selector.matches(pod)
    };
    let covering: Vec<&Arc<Object>> = budgets.objects.iter().filter(|budget| covers(budget)).collect();
    let budget = match covering.as_slice() {
        [] => return Ok(None),
        [one] => *one,
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(why));
        }
    };
    let budget_name = budget.key.name.to_string();
    if is_spare(&pod.tree(), &budget.tree()) {
        return Ok(Some(budget_name));
    }
    if dry_run {
        return check(&budget_name, &budget.tree()).map(|()| None);
    }
    let (now, name) = (core.clock.timestamp(), pod.key.name.to_string());
    let spent = update::edit(core, kind, &budget.key, |tree| {
        check(&budget_name, tree)?;
        let left = tree.int_at(&["status", "disruptionsAllowed"]).unwrap_or(0) - 1;
        tree.set_at(&["status", "disruptionsAllowed"], left);
        tree.set_at(&["status", "disruptedPods", &name], now.as_str());
        Ok(())
    });
    match spent.await {
        // Others were faster all the time.
        Err(status) if status.reason == Reason::Timeout => Err(busy(&budget_name)),
        other => other.map(|_| None),
    }
}

/// Whether the pod does not count as healthy, and the budget lets such pods go.
fn is_spare(pod: &Value, budget: &Value) -> bool {
    if is_ready(pod) {
        return false;
    }
    let count = |field| budget.int_at(&["status", field]).unwrap_or(0);
    let (healthy, wanted) = (count("currentHealthy"), count("desiredHealthy"));
    budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == Some("AlwaysAllow")
        || healthy >= wanted && wanted > 0
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.items_at(&["status", "conditions"]);
    conditions.iter().any(|condition| {
        condition.str_at(&["type"]) == Some("Ready") && condition.str_at(&["status"]) == Some("True")
    })
}

/// Whether the budget has a disruption left.
fn check(name: &str, budget: &Value) -> Result<(), Status> {
    let status = |field| budget.int_at(&["status", field]).unwrap_or(0);
    let generation = budget.int_at(&["metadata", "generation"]).unwrap_or(0);
    if status("observedGeneration") < generation {
        return Err(busy(name));
    }
    let forbidden = |why| Err(Status::forbidden("policy", "poddisruptionbudget", name, why));
    let allowed = status("disruptionsAllowed");
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    let unconfirmed = budget.at(&["status", "disruptedPods"]).and_then(Value::as_object);
    if unconfirmed.is_some_and(|pods| pods.len() > MOST_UNCONFIRMED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let (wanted, healthy) = (status("desiredHealthy"), status("currentHealthy"));
        let why =
            format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently");
        return Err(refused(why));
    }
    Ok(())
}

/// Nothing certain can be said of the budget just now.
fn busy(budget: &str) -> Status {
    let why = format!("The disruption budget {budget} is still being processed by the server.");
    refused(why).with_retry_after(10)
}

fn refused(why: String) -> Status {
    let cause = Cause {
        cause: CauseType::DisruptionBudget,
        message: why,
        field: String::new(),
    };
    Status::new(
        Reason::TooManyRequests,
        "Cannot evict pod as it would violate the pod's disruption budget.",
    )
    .with_causes(vec![cause])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: Value) -> (u16, String) {
        let budget = value!({"metadata": {"generation": 1}, "spec": {}, "status": (status)});
        match check("b", &budget) {
            Ok(()) => (0, String::new()),
            Err(status) => {
                let causes = status.details.map(|details| details.causes).unwrap_or_default();
                (
                    status.code,
                    causes
                        .first()
                        .map_or(status.message, |cause| cause.message.clone()),
                )
            }
        }
    }

    #[test]
    fn a_budget_says_why_it_forbids() {
        assert_eq!(
            refusal(value!({"observedGeneration": 1, "disruptionsAllowed": 1})).0,
            0
        );
        let (code, why) = refusal(value!({"disruptionsAllowed": 1}));
        assert_eq!(
            (code, why.as_str()),
            (
                429,
                "The disruption budget b is still being processed by the server."
            )
        );
        let spent = value!({"observedGeneration": 1, "disruptionsAllowed": 0, "desiredHealthy": 2, "currentHealthy": 2});
        let (code, why) = refusal(spent);
        assert_eq!(
            (code, why.as_str()),
            (
                429,
                "The disruption budget b needs 2 healthy pods and has 2 currently"
            )
        );
        assert_eq!(
            refusal(value!({"observedGeneration": 1, "disruptionsAllowed": (-1)})).0,
            403
        );
    }

    #[test]
    fn unready_pods_go_where_the_budget_can_spare_them() {
        let pod = |ready: &str| value!({"status": {"conditions": [{"type": "Ready", "status": (ready)}]}});
        let budget = |spec: Value, healthy: i64| value!({"spec": (spec), "status": {"desiredHealthy": 2, "currentHealthy": (healthy)}});
        let always = value!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        assert!(is_spare(&pod("False"), &budget(always.clone(), 0)));
        assert!(!is_spare(&pod("True"), &budget(always, 0)));
        assert!(is_spare(&pod("False"), &budget(value!({}), 2)));
        assert!(!is_spare(&pod("False"), &budget(value!({}), 1)));
    }
}
