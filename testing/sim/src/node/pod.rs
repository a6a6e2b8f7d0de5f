//! The life of one pod on a machine.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_machinery::{Object, Reason, Status, Value, value};
use tokio::sync::watch;

use super::{Agent, Container, condition, now};
use crate::dice::Dice;
use crate::kinds;
use crate::laws;
use crate::network::lock;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// Works on one pod from its binding to its end.
pub(super) struct Worker {
    agent: Agent,
    uid: String,
    latest: watch::Receiver<Arc<Object>>,
    dice: Dice,
}

/// Why a worker has nothing left to do.
struct Over;

impl Worker {
    pub(super) fn new(agent: &Agent, uid: &str, latest: watch::Receiver<Arc<Object>>) -> Self {
        Self {
            dice: agent.dice_for(uid),
            agent: agent.clone(),
            uid: uid.to_owned(),
            latest,
        }
    }

    pub(super) async fn run(mut self) {
        // Either way there is nothing left to do.
        let _ = self.live().await;
        lock(&self.agent.running).pods.remove(&self.uid);
    }

    async fn live(&mut self) -> Result<(), Over> {
        let tree = self.tree();
        if !laws::is_over(&tree) && !is_deleting(&tree) {
            let Some(container) = self.admit(&tree) else {
                let refused = value!({
                    "phase": "Failed", "reason": "OutOfcpu",
                    "message": "Pod was rejected: Node didn't have enough resource: cpu"
                });
                self.report(refused).await?;
                self.until_deleting().await?;
                return self.delete().await;
            };
            if !container.started {
                let delay = self.dice.millis(20, 3_000);
                self.sleep_unless_deleting(delay).await?;
            }
            if !is_deleting(&self.tree()) {
                self.keep_running(&container).await?;
            }
        }
        self.until_deleting().await?;
        let tree = self.tree();
        if !laws::is_over(&tree) {
            let grace = tree
                .int_at(&["metadata", "deletionGracePeriodSeconds"])
                .unwrap_or(0);
            let grace_ms = u64::try_from(grace * 1000).unwrap_or(0);
            let stopping = self.dice.millis(0, grace_ms.min(5_000));
            tokio::time::sleep(stopping).await;
            self.report(value!({"phase": "Succeeded", "conditions": [(ready_condition(false))]}))
                .await?;
        }
        self.delete().await
    }

    /// Takes room on the machine, unless there is none.
    fn admit(&self, tree: &Value) -> Option<Container> {
        let mut running = lock(&self.agent.running);
        if let Some(container) = running.pods.get(&self.uid) {
            return Some(container.clone());
        }
        let cpu_millis = laws::cpu(tree);
        let used: i64 = running.pods.values().map(|container| container.cpu_millis).sum();
        if used + cpu_millis > self.agent.cpu_millis {
            return None;
        }
        let number = self.agent.number;
        let mut addresses = (1..250).map(|last| format!("10.244.{number}.{last}"));
        let is_free = |address: &String| running.pods.values().all(|it| it.address != *address);
        let address = addresses.find(is_free)?;
        let container = Container {
            address,
            cpu_millis,
            started: false,
        };
        running.pods.insert(self.uid.clone(), container.clone());
        Some(container)
    }

    /// Reports the pod as running, and flickers now and then, until it is to end.
    async fn keep_running(&mut self, container: &Container) -> Result<(), Over> {
        if let Some(container) = lock(&self.agent.running).pods.get_mut(&self.uid) {
            container.started = true;
        }
        let started = now();
        let mut ready = true;
        self.report(running(&container.address, &started, ready)).await?;
        let mut flickers = self.agent.flickers && self.dice.below(8) == 0;
        loop {
            let pause = self.dice.millis(5_000, 120_000);
            tokio::select! {
                biased;
                changed = self.latest.changed() => changed.map_err(|_| Over)?,
                () = tokio::time::sleep(pause), if flickers || !ready => {
                    ready = !ready;
                    flickers = !ready;
                    self.report(running(&container.address, &started, ready)).await?;
                }
            }
            let tree = self.tree();
            if is_deleting(&tree) {
                return Ok(());
            }
            // Somebody else's word on it, or a report that was lost on the way.
            if says_ready(&tree) != Some(ready) {
                self.report(running(&container.address, &started, ready)).await?;
            }
        }
    }

    fn tree(&self) -> Value {
        self.latest.borrow().tree()
    }

    async fn until_deleting(&mut self) -> Result<(), Over> {
        let waited = self.latest.wait_for(|object| is_deleting(&object.tree())).await;
        waited.map(drop).map_err(|_| Over)
    }

    async fn sleep_unless_deleting(&mut self, time: Duration) -> Result<(), Over> {
        tokio::select! {
            biased;
            deleting = self.until_deleting() => deleting,
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    /// Brings the status into the API, however long that takes.
    async fn report(&self, status: Value) -> Result<(), Over> {
        let object = self.latest.borrow().clone();
        let patch = value!({"metadata": {"uid": (self.uid.as_str())}, "status": (status)});
        let mut retry = FIRST_RETRY;
        loop {
            let (namespace, name) = (&object.key.namespace, &object.key.name);
            let outcome = self
                .agent
                .client
                .strategic_patch(&kinds::pods(), namespace, name, "status", &patch)
                .await;
            if is_done(outcome.map(drop))? {
                return Ok(());
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    async fn delete(&self) -> Result<(), Over> {
        let object = self.latest.borrow().clone();
        let options = value!({
            "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
            "preconditions": {"uid": (self.uid.as_str())}
        });
        let mut retry = FIRST_RETRY;
        loop {
            let (namespace, name) = (&object.key.namespace, &object.key.name);
            let outcome = self
                .agent
                .client
                .delete(&kinds::pods(), namespace, name, &options)
                .await;
            if is_done(outcome.map(drop))? {
                return Ok(());
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }
}

fn is_done(outcome: Result<(), Status>) -> Result<bool, Over> {
    match outcome {
        Ok(()) => Ok(true),
        // Gone, or another of the same name.
        Err(status) if matches!(status.reason, Reason::NotFound | Reason::Conflict) => Err(Over),
        Err(_) => Ok(false),
    }
}

fn is_deleting(tree: &Value) -> bool {
    tree.at(&["metadata", "deletionTimestamp"]).is_some()
}

fn says_ready(tree: &Value) -> Option<bool> {
    Some(condition(tree, "Ready")?.str_at(&["status"])? == "True")
}

fn ready_condition(ready: bool) -> Value {
    let word = if ready { "True" } else { "False" };
    value!({"type": "Ready", "status": (word), "lastTransitionTime": (now())})
}

/// The addresses replace those of an earlier boot: the list would be merged otherwise.
fn running(address: &str, started: &str, ready: bool) -> Value {
    value!({
        "phase": "Running", "podIP": (address), "podIPs": [{"$patch": "replace"}, {"ip": (address)}], "startTime": (started),
        "conditions": [(ready_condition(ready))]
    })
}
