//! Evicts pods from nodes with taints of the effect `NoExecute` that they do not tolerate, or no longer.
//!
//! State: pods on such nodes. What a toleration grants is counted from when the taint was added, so a restart in between
//! grants nothing more; for taints that do not tell, from when the pod was first seen with it. A pod is told why by a
//! condition before it is deleted.
//!
//! Source: `pkg/controller/tainteviction`. Deviation: upstream counts from when it saw the taint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudeck_client::Client;
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Status, Time, Value, value};
use cloudeck_task::Scope;
use compact_str::CompactString;

use crate::clock::{Clock, Now};
use crate::kinds;
use crate::node::facts::Node;
use crate::pod::Pod;
use crate::view::View;
use crate::write;

const WORKERS: usize = 2;

#[derive(Clone)]
pub(crate) struct Evictions {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    events: EventRecorder,
    nodes: View<Node>,
    pods: View<Pod>,
    queue: WorkQueue<ObjectKey>,
    /// Since when pods, by uid, are known to be on their way out.
    started: Mutex<HashMap<CompactString, Now>>,
    clock: Clock,
}

impl Evictions {
    /// Registers with the views; [`Evictions::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        scope: &Scope,
        (nodes, pods): (&View<Node>, &View<Pod>),
        clock: Clock,
    ) -> Self {
        let events = EventRecorder::start(scope, client.clone(), "taint-eviction-controller", "");
        let inner = Arc::new(Inner {
            client,
            events,
            nodes: nodes.clone(),
            pods: pods.clone(),
            queue: WorkQueue::new(),
            started: Mutex::default(),
            clock,
        });
        let (queue, known) = (inner.queue.clone(), pods.clone());
        nodes.on_change(move |update| {
            let taints =
                |node: Option<&Arc<Node>>| node.map(|node| node.evicting.clone()).unwrap_or_default();
            let (old, new) = (taints(update.old), taints(update.new));
            if old != new {
                let pods = known.list();
                let there = pods.iter().filter(|pod| pod.node == update.key.name);
                there.for_each(|pod| queue.add(pod.object.key.clone()));
            }
        });
        let (queue, known, started) = (inner.queue.clone(), nodes.clone(), Arc::clone(&inner));
        pods.on_change(move |update| {
            if let Some(gone) = update.old
                && update.new.is_none_or(|pod| pod.uid() != gone.uid())
            {
                started.with_started(|all| all.remove(gone.uid()));
            }
            let node = |pod: &Arc<Pod>| known.get(&ObjectKey::new("", &pod.node));
            let is_tainted = |node: Arc<Node>| !node.evicting.is_empty();
            if update.new.and_then(node).is_some_and(is_tainted) && has_moved(update.old, update.new) {
                queue.add(update.key.clone());
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "taint-eviction-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(pod) = self.pods.get(key) else {
            return Ok(Requeue::OnChange);
        };
        if pod.deleting {
            self.with_started(|all| all.remove(&pod.object.uid));
            return Ok(Requeue::OnChange);
        }
        let node = self.nodes.get(&ObjectKey::new("", &pod.node));
        let taints = node.map(|node| node.evicting.clone()).unwrap_or_default();
        let tolerations = pod.object.tree().items_at(&["spec", "tolerations"]).to_vec();
        let now = (self.clock)();
        let seen = self.with_started(|all| all.get(&pod.object.uid).copied());
        let created = pod.created.map_or(Now(0), Now::at);
        match decide(&taints, &tolerations, created, seen.unwrap_or(now)) {
            Verdict::Stay => {
                if self.with_started(|all| all.remove(&pod.object.uid)).is_some() {
                    self.event(&pod, format!("Cancelling deletion of Pod {key}"));
                }
                Ok(Requeue::OnChange)
            }
            Verdict::Leave(at) => {
                if let Some(at) = at
                    && let Ok(left @ 1..) = u64::try_from(at.0 - now.0)
                {
                    self.with_started(|all| *all.entry(pod.object.uid.clone()).or_insert(now));
                    return Ok(Requeue::After(Duration::from_millis(left)));
                }
                self.evict(&pod, now).await?;
                self.with_started(|all| all.remove(&pod.object.uid));
                Ok(Requeue::OnChange)
            }
        }
    }

    fn with_started<R>(&self, act: impl FnOnce(&mut HashMap<CompactString, Now>) -> R) -> R {
        act(&mut self.started.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn evict(&self, pod: &Pod, now: Now) -> Result<(), Status> {
        let key = &pod.object.key;
        self.event(pod, format!("Marking for deletion Pod {key}"));
        let patch = value!({
            "metadata": {"uid": (pod.object.uid.clone())},
            "status": {"conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": (now.timestamp())
            }]}
        });
        let resource = kinds::pods();
        let told = self
            .client
            .strategic_patch(&resource, &key.namespace, &key.name, "status", &patch)
            .await;
        write::absent_is_fine(told.map(|_| ()))?;
        write::delete(&self.client, &resource, key, &pod.object.uid).await
    }

    fn event(&self, pod: &Pod, message: String) {
        let about = ObjectReference::to_object("v1", "Pod", &pod.object);
        self.events
            .event(about, EventType::Normal, "TaintManagerEviction", message);
    }
}

/// Whether the pod came to its node, or tolerates other things than before.
fn has_moved(old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return true;
    };
    let tolerations = |pod: &Pod| pod.object.tree().items_at(&["spec", "tolerations"]).to_vec();
    old.node != new.node || tolerations(old) != tolerations(new)
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    /// Go at this time; at once without one.
    Leave(Option<Now>),
}

/// What is granted counts from when the taint was added (or `seen`, where it does not tell), or from the pod's creation
/// if that was later. The first grant to end counts; tolerations without a time hold for ever.
fn decide(taints: &[Value], tolerations: &[Value], created: Now, seen: Now) -> Verdict {
    let mut end: Option<Now> = None;
    for taint in taints {
        let granting: Vec<&Value> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        let Some(first) = granting.first() else {
            return Verdict::Leave(None);
        };
        let Some(seconds) = first.int_at(&["tolerationSeconds"]) else {
            continue;
        };
        if seconds <= 0 {
            return Verdict::Leave(None);
        }
        let added = taint.str_at(&["timeAdded"]).and_then(|at| Time::parse(at).ok());
        let start = added.map_or(seen, Now::at).max(created);
        let at = Now(start.0.saturating_add(seconds.saturating_mul(1000)));
        end = Some(end.map_or(at, |other| other.min(at)));
    }
    end.map_or(Verdict::Stay, |end| Verdict::Leave(Some(end)))
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |value: &'_ Value, field| value.str_at(&[field]).unwrap_or_default().to_owned();
    let (effect, key) = (text(toleration, "effect"), text(toleration, "key"));
    if !effect.is_empty() && effect != text(taint, "effect") {
        return false;
    }
    if !key.is_empty() && key != text(taint, "key") {
        return false;
    }
    match text(toleration, "operator").as_str() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && text(toleration, "value") == text(taint, "value"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;

    /// The pod is created at 10 s, and its eviction seen at 100 s.
    #[track_caller]
    fn check(added: &str, tolerations: &str, wanted: &Verdict) {
        let mut taint = value!({"key": "k", "value": "v", "effect": "NoExecute"});
        if !added.is_empty() {
            taint.set_at(&["timeAdded"], added);
        }
        let tolerations = json::parse(tolerations.as_bytes()).unwrap();
        let tolerations = tolerations.as_array().unwrap();
        assert_eq!(decide(&[taint], tolerations, Now(10_000), Now(100_000)), *wanted);
    }

    #[test]
    fn untolerated_taints_evict_at_once_and_tolerated_ones_never() {
        check("", "[]", &Verdict::Leave(None));
        let other = r#"[{"key":"k","operator":"Equal","value":"other"}]"#;
        check("", other, &Verdict::Leave(None));
        let soft = r#"[{"key":"k","effect":"NoSchedule","operator":"Exists"}]"#;
        check("", soft, &Verdict::Leave(None));
        check("", r#"[{"key":"k","value":"v"}]"#, &Verdict::Stay);
        check("", r#"[{"operator":"Exists"}]"#, &Verdict::Stay);
        assert_eq!(decide(&[], &[], Now(0), Now(0)), Verdict::Stay);
    }

    const FOR_A_MINUTE: &str =
        r#"[{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":60}]"#;

    #[test]
    fn a_toleration_with_a_time_evicts_after_it() {
        check("", FOR_A_MINUTE, &Verdict::Leave(Some(Now(160_000))));
        check("", &FOR_A_MINUTE.replace("60", "-1"), &Verdict::Leave(None));
    }

    #[test]
    fn the_time_runs_from_when_the_taint_was_added_or_the_pod_came() {
        let leave = |at| Verdict::Leave(Some(Now(at)));
        check("1970-01-01T00:00:50Z", FOR_A_MINUTE, &leave(110_000));
        check("1970-01-01T00:00:01Z", FOR_A_MINUTE, &leave(70_000));
    }
}
