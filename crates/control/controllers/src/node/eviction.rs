//! Evicts pods from nodes with taints of the effect `NoExecute` that they do not tolerate, or no longer.
//!
//! State: pods on such nodes, and since when each is on its way out. A pod is told why by a condition before it is
//! deleted.
//!
//! Source: `pkg/controller/tainteviction`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudeck_client::Client;
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Status, Value, value};
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
    /// Since when pods, by uid, are to be evicted.
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
        let (queue, known) = (inner.queue.clone(), nodes.clone());
        pods.on_change(move |update| {
            let node = |pod: &Arc<Pod>| known.get(&ObjectKey::new("", &pod.node));
            let is_tainted = |node: Arc<Node>| !node.evicting.is_empty();
            let moved = update.old.map(|pod| &pod.node) != update.new.map(|pod| &pod.node);
            if moved && update.new.and_then(node).is_some_and(is_tainted) {
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
        let Some(pod) = self.pods.get(key).filter(|pod| !pod.deleting) else {
            return Ok(Requeue::OnChange);
        };
        let node = self.nodes.get(&ObjectKey::new("", &pod.node));
        let taints = node.map(|node| node.evicting.clone()).unwrap_or_default();
        let tolerations = pod.object.tree().items_at(&["spec", "tolerations"]).to_vec();
        let now = (self.clock)();
        match decide(&taints, &tolerations) {
            Verdict::Stay => {
                if self.with_started(|all| all.remove(&pod.object.uid)).is_some() {
                    self.event(&pod, format!("Cancelling deletion of Pod {key}"));
                }
                Ok(Requeue::OnChange)
            }
            Verdict::Leave(tolerated) => {
                let start = self.with_started(|all| *all.entry(pod.object.uid.clone()).or_insert(now));
                let end = start.0 + i64::try_from(tolerated.as_millis()).unwrap_or(i64::MAX);
                if let Ok(left @ 1..) = u64::try_from(end - now.0) {
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

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    /// Go after this time, counted from when the taint was first seen on the pod's node.
    Leave(Duration),
}

/// The shortest toleration counts; tolerations without a time hold for ever.
fn decide(taints: &[Value], tolerations: &[Value]) -> Verdict {
    if taints.is_empty() {
        return Verdict::Stay;
    }
    let mut shortest: Option<i64> = None;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Verdict::Leave(Duration::ZERO);
        };
        if let Some(seconds) = toleration.int_at(&["tolerationSeconds"]) {
            shortest = Some(shortest.map_or(seconds, |other| other.min(seconds)));
        }
    }
    shortest.map_or(Verdict::Stay, |seconds| {
        Verdict::Leave(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    })
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

    #[track_caller]
    fn check(tolerations: &str, wanted: &Verdict) {
        let taints = [value!({"key": "k", "value": "v", "effect": "NoExecute"})];
        let tolerations = json::parse(tolerations.as_bytes()).unwrap();
        assert_eq!(decide(&taints, tolerations.as_array().unwrap()), *wanted);
    }

    #[test]
    fn untolerated_taints_evict_at_once_and_tolerated_ones_never() {
        check("[]", &Verdict::Leave(Duration::ZERO));
        check(
            r#"[{"key":"k","operator":"Equal","value":"other"}]"#,
            &Verdict::Leave(Duration::ZERO),
        );
        check(
            r#"[{"key":"k","effect":"NoSchedule","operator":"Exists"}]"#,
            &Verdict::Leave(Duration::ZERO),
        );
        check(r#"[{"key":"k","value":"v"}]"#, &Verdict::Stay);
        check(r#"[{"operator":"Exists"}]"#, &Verdict::Stay);
        assert_eq!(decide(&[], &[]), Verdict::Stay);
    }

    #[test]
    fn a_toleration_with_a_time_evicts_after_it() {
        let toleration = r#"[{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}]"#;
        check(toleration, &Verdict::Leave(Duration::from_mins(5)));
        check(&toleration.replace("300", "-1"), &Verdict::Leave(Duration::ZERO));
    }
}
