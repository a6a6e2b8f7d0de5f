//! Evictions of pods that change at that very moment.

use std::sync::{Mutex, PoisonError};

use cloudeck_engine::{BoxFuture, Txn};

use super::interrupted::server_interrupted;
use super::*;

const POD: &[u8] = b"/registry/core/pods/default/p";

/// What to do before a transaction that concerns the pod, once so many of them have passed.
struct Interference {
    passed: usize,
    act: BoxFuture<'static, ()>,
}

#[derive(Clone, Default)]
struct Plan(Arc<Mutex<Option<Interference>>>);

impl Plan {
    fn set(&self, interference: Interference) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(interference);
    }

    fn before(&self, txn: &Txn) -> BoxFuture<'static, ()> {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if txn.compares.iter().all(|compare| compare.key != POD) {
            return Box::pin(async {});
        }
        match next.as_mut() {
            Some(interference) if interference.passed > 0 => interference.passed -= 1,
            Some(_) => return next.take().expect("there is one").act,
            None => {}
        }
        Box::pin(async {})
    }
}

fn core(plural: &str) -> GroupVersionResource {
    GroupVersionResource::new("", "v1", plural)
}

fn status(phase: &str, ready: &str) -> Value {
    value!({"status": {"phase": (phase), "conditions": [{"type": "Ready", "status": (ready)}]}})
}

/// A cluster with a pod, which a budget covers that has nothing to spare.
async fn cluster(before: &Value, healthy: i64) -> (Client, Plan) {
    let plan = Plan::default();
    let asked = plan.clone();
    let server = server_interrupted(Box::new(move |txn| asked.before(txn))).await;
    let client = server.client(LocalIdentity::api_server());
    let account = value!({"metadata": {"name": "default"}});
    client
        .create(&core("serviceaccounts"), "default", &account)
        .await
        .unwrap();
    let pod = value!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {
        "nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    client.create(&core("pods"), "default", &pod).await.unwrap();
    client
        .merge_patch(&core("pods"), "default", "p", "status", before)
        .await
        .unwrap();
    let budgets = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
    let budget = value!({"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "minAvailable": 1}});
    client.create(&budgets, "default", &budget).await.unwrap();
    let counted = value!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": (healthy), "desiredHealthy": 1, "expectedPods": 1}});
    client
        .merge_patch(&budgets, "default", "b", "status", &counted)
        .await
        .unwrap();
    (client, plan)
}

/// Evicts a pod that becomes ready before the `passed`-and-first write that the eviction makes of it.
async fn evict_while_it_becomes_ready(before: &Value, healthy: i64, passed: usize) -> (Value, Client) {
    let (client, plan) = cluster(before, healthy).await;
    let other = client.clone();
    let act = Box::pin(async move {
        let ready = status("Running", "True");
        other
            .merge_patch(&core("pods"), "default", "p", "status", &ready)
            .await
            .unwrap();
    });
    plan.set(Interference { passed, act });
    let eviction = value!({"metadata": {"name": "p"}});
    let refused = client
        .create_subresource(&core("pods"), "default", "p", "eviction", &eviction)
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, 429, "{refused}");
    assert_eq!(
        refused.message,
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    let pod = client.get(&core("pods"), "default", "p").await.unwrap().tree();
    (pod, client)
}

#[tokio::test]
async fn a_pending_pod_that_becomes_ready_during_its_eviction_is_guarded_by_its_budget() {
    for passed in [0, 1] {
        let (pod, _) = evict_while_it_becomes_ready(&status("Pending", "False"), 1, passed).await;
        assert_eq!(
            pod.at(&["metadata", "deletionTimestamp"]),
            None,
            "after {passed} writes"
        );
    }
}

#[tokio::test]
async fn an_unready_pod_that_the_budget_spares_and_that_becomes_ready_stays() {
    for passed in [0, 1] {
        let (pod, client) = evict_while_it_becomes_ready(&status("Running", "False"), 1, passed).await;
        assert_eq!(
            pod.at(&["metadata", "deletionTimestamp"]),
            None,
            "after {passed} writes"
        );
        // Had nothing happened, it would have gone.
        client
            .merge_patch(
                &core("pods"),
                "default",
                "p",
                "status",
                &status("Running", "False"),
            )
            .await
            .unwrap();
        let eviction = value!({"metadata": {"name": "p"}});
        client
            .create_subresource(&core("pods"), "default", "p", "eviction", &eviction)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_eviction_of_another_pod_than_the_one_meant_changes_nothing() {
    let (client, _) = cluster(&status("Succeeded", "False"), 1).await;
    for (field, said) in [
        ("uid", "the UID in the precondition"),
        ("resourceVersion", "the ResourceVersion in the precondition"),
    ] {
        let mut eviction = value!({"metadata": {"name": "p"}, "deleteOptions": {}});
        eviction.set_at(&["deleteOptions", "preconditions", field], "1");
        let refused = client
            .create_subresource(&core("pods"), "default", "p", "eviction", &eviction)
            .await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason, Reason::Conflict);
        assert!(refused.message.contains(said), "{refused}");
    }
    let pod = client.get(&core("pods"), "default", "p").await.unwrap().tree();
    let conditions = pod.items_at(&["status", "conditions"]);
    assert!(
        conditions
            .iter()
            .all(|condition| condition.str_at(&["type"]) != Some("DisruptionTarget"))
    );
}
