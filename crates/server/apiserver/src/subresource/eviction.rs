//! `POST …/pods/NAME/eviction`: a deletion that disruption budgets may forbid.

use cloudeck_client::Response;
use cloudeck_machinery::selector::LabelSelector;
use cloudeck_machinery::{Cause, CauseType, Object, ObjectKey, Reason, Status, Value};

use super::{body, created};
use crate::registry::delete::{self, DeleteOptions};
use crate::registry::{Call, update};

pub(super) async fn evict(call: &mut Call<'_>) -> Result<Response, Status> {
    let (eviction, _) = body(call, "policy/v1", "Eviction")?;
    let options = eviction
        .get("deleteOptions")
        .map(DeleteOptions::from_tree)
        .unwrap_or_default();
    let pod = call.current()?;
    let tree = pod.tree();
    let free = matches!(
        tree.str_at(&["status", "phase"]),
        Some("Succeeded" | "Failed" | "Pending")
    ) || tree.at(&["metadata", "deletionTimestamp"]).is_some();
    if !free && !options.is_dry_run() && !call.is_dry_run() {
        spend_budget(call, &pod).await?;
    }
    let mut plain = call.request.clone();
    plain.subresource.clear();
    let mut deletion = Call {
        core: call.core,
        user: call.user,
        agent: call.agent,
        request: &plain,
        view: call.view,
        warnings: Vec::new(),
    };
    delete::delete_with(&mut deletion, &options).await?;
    Ok(created())
}

/// Takes one disruption from the budget that covers the pod, if one does.
async fn spend_budget(call: &Call<'_>, pod: &Object) -> Result<(), Status> {
    let core = call.core;
    let kind = core.stored("policy", "poddisruptionbudgets");
    let (budgets, _) = kind
        .cache
        .snapshot(&pod.key.namespace, &core.frontier, None, usize::MAX, |_| true);
    let covers = |budget: &Value| {
        let selector = LabelSelector::from_value(budget.at(&["spec", "selector"]))
            .unwrap_or_else(|_| LabelSelector::nothing());
        selector.matches(pod)
    };
    let covering: Vec<ObjectKey> = budgets
        .objects
        .iter()
        .filter(|budget| covers(&budget.tree()))
        .map(|budget| budget.key.clone())
        .collect();
    let budget = match covering.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::internal(why));
        }
    };
    let (now, name) = (core.clock.timestamp(), pod.key.name.to_string());
    update::edit(core, kind, budget, |tree| {
        let allowed = tree.int_at(&["status", "disruptionsAllowed"]).unwrap_or(0);
        if allowed <= 0 {
            return Err(refused(&budget.name));
        }
        tree.set_at(&["status", "disruptionsAllowed"], allowed - 1);
        tree.set_at(&["status", "disruptedPods", &name], now.as_str());
        Ok(())
    })
    .await
    .map(|_| ())
}

fn refused(budget: &str) -> Status {
    let cause = Cause {
        cause: CauseType::Internal,
        message: format!("The disruption budget {budget} needs more healthy pods than there are now"),
        field: String::new(),
    };
    Status::new(
        Reason::TooManyRequests,
        "Cannot evict pod as it would violate the pod's disruption budget.",
    )
    .with_causes(vec![cause])
}
