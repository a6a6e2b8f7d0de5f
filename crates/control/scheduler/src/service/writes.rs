//! What the scheduler writes: bindings, conditions, the end of pods that make room.

use std::time::Duration;

use cloudeck_client::Client;
use cloudeck_controller::ObjectReference;
use cloudeck_machinery::value::Map;
use cloudeck_machinery::{GroupVersionResource, ObjectKey, Reason, Status, Time, Value, value};

use crate::model::PodInfo;

fn pods() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "pods")
}

pub(super) async fn write_binding(client: &Client, pod: &PodInfo, node: &str) -> Result<(), Status> {
    let binding = value!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": (pod.key.name.as_str()), "namespace": (pod.key.namespace.as_str()), "uid": (pod.uid.as_str())},
        "target": {"kind": "Node", "name": (node)}
    });
    let written = client
        .create_subresource(&pods(), &pod.key.namespace, &pod.key.name, "binding", &binding)
        .await;
    match written {
        Err(status) if is_ambiguous(&status) && is_bound(client, pod, node).await => Ok(()),
        written => written.map(drop),
    }
}

/// Whether the binding may have been written though its answer says nothing of it, or says that there is one.
fn is_ambiguous(status: &Status) -> bool {
    status.code >= 500 || status.reason == Reason::Conflict
}

/// Asks until there is an answer: a pod that is taken for unbound while it is bound gives its room away a second time.
async fn is_bound(client: &Client, pod: &PodInfo, node: &str) -> bool {
    const FIRST_RETRY: Duration = Duration::from_millis(100);
    const LONGEST_RETRY: Duration = Duration::from_secs(10);
    let mut retry = FIRST_RETRY;
    loop {
        match client.get(&pods(), &pod.key.namespace, &pod.key.name).await {
            Ok(object) => {
                let bound_to = object.tree().str_at(&["spec", "nodeName"]) == Some(node);
                return bound_to && *object.uid == *pod.uid;
            }
            Err(status) if status.code < 500 => return false,
            Err(_) => tokio::time::sleep(retry).await,
        }
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

/// Why a pod has no node, and for which one it waits.
pub(super) struct Unplaced {
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    pub(super) reason: &'static str,
    pub(super) message: String,
    /// `None` leaves `status.nominatedNodeName` as it is; an empty one clears it.
    pub(super) nominated: Option<String>,
}

/// Writes `PodScheduled: False` and the nomination; what is so already is not written.
pub(super) async fn tell_unplaced(client: &Client, unplaced: &Unplaced) -> Result<(), Status> {
    let key = &unplaced.key;
    let current = client.get(&pods(), &key.namespace, &key.name).await?.tree();
    let mut status = Value::object();
    let scheduled = [
        ("type", "PodScheduled"),
        ("status", "False"),
        ("reason", unplaced.reason),
        ("message", &unplaced.message),
    ];
    if let Some(conditions) = with_condition(&current, &scheduled) {
        status.set_at(&["conditions"], conditions);
    }
    let before = current
        .str_at(&["status", "nominatedNodeName"])
        .unwrap_or_default();
    match unplaced.nominated.as_deref() {
        Some(nominated) if nominated == before => {}
        Some("") => drop(status.set_at(&["nominatedNodeName"], Value::Null)),
        Some(nominated) => drop(status.set_at(&["nominatedNodeName"], nominated)),
        None => {}
    }
    patch_status(client, key, &unplaced.uid, status).await
}

/// The pod's conditions with this one; `None` when it is there already. The transition time holds while the status does.
fn with_condition(pod: &Value, wanted: &[(&str, &str)]) -> Option<Vec<Value>> {
    let mut conditions = pod.items_at(&["status", "conditions"]).to_vec();
    let (_, kind) = wanted[0];
    let at = conditions.iter().position(|c| c.str_at(&["type"]) == Some(kind));
    let before = at.map(|at| conditions.remove(at));
    let is_same = |c: &Value| {
        wanted
            .iter()
            .all(|(field, text)| c.str_at(&[field]) == Some(text))
    };
    if before.as_ref().is_some_and(is_same) {
        return None;
    }
    let status = wanted
        .iter()
        .find(|(field, _)| *field == "status")
        .map(|(_, text)| *text);
    let since = before
        .as_ref()
        .filter(|c| c.str_at(&["status"]) == status)
        .and_then(|c| c.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| Value::from(now_text()));
    let mut condition = value!({"lastProbeTime": null, "lastTransitionTime": (since)});
    for (field, text) in wanted {
        condition.set_at(&[field], *text);
    }
    if let Some(generation) = pod.int_at(&["metadata", "generation"]) {
        condition.set_at(&["observedGeneration"], generation);
    }
    conditions.push(condition);
    Some(conditions)
}

/// Ends a pod that makes room, after telling it why. One that is gone has made it.
pub(super) async fn end_victim(client: &Client, victim: &PodInfo) -> Result<(), Status> {
    let key = &victim.key;
    let outcome = async {
        let current = client.get(&pods(), &key.namespace, &key.name).await?.tree();
        let disruption = [
            ("type", "DisruptionTarget"),
            ("status", "True"),
            ("reason", "PreemptionByScheduler"),
            (
                "message",
                "default-scheduler: preempting to accommodate a higher priority pod",
            ),
        ];
        let mut status = Value::object();
        if let Some(conditions) = with_condition(&current, &disruption) {
            status.set_at(&["conditions"], conditions);
        }
        patch_status(client, key, &victim.uid, status).await?;
        let options = value!({"preconditions": {"uid": (victim.uid.as_str())}});
        client
            .delete(&pods(), &key.namespace, &key.name, &options)
            .await
            .map(drop)
    };
    match outcome.await {
        // Another pod may have the name by now.
        Err(status) if matches!(status.reason, Reason::NotFound | Reason::Conflict) => Ok(()),
        other => other,
    }
}

/// Takes back that the pod is to run on a node.
pub(super) async fn clear_nomination(client: &Client, pod: &PodInfo) -> Result<(), Status> {
    let status = value!({"nominatedNodeName": null});
    patch_status(client, &pod.key, &pod.uid, status).await
}

/// An empty status is not written. The uid is a precondition.
async fn patch_status(client: &Client, key: &ObjectKey, uid: &str, status: Value) -> Result<(), Status> {
    if status.as_object().is_none_or(Map::is_empty) {
        return Ok(());
    }
    let patch = value!({"metadata": {"uid": (uid)}, "status": (status)});
    client
        .merge_patch(&pods(), &key.namespace, &key.name, "status", &patch)
        .await
        .map(drop)
}

fn now_text() -> String {
    Time::from(std::time::SystemTime::now()).to_string()
}

pub(super) fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.key.namespace.to_string(),
        name: pod.key.name.to_string(),
        uid: pod.uid.to_string(),
        resource_version: pod.revision.to_string(),
        field_path: String::new(),
    }
}
