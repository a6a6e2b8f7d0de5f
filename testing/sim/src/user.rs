//! What users and administrators do to the cluster, as the dice say.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Client, Params};
use cloudeck_machinery::{GroupVersionResource, Object, Reason, Status, Value, value};

use crate::dice::Dice;
use crate::kinds;
use crate::trace::Trace;

const NAMESPACES: [&str; 3] = ["default", "blue", "green"];
const NAMES: [&str; 3] = ["web", "api", "db"];
const IMAGES: u64 = 4;

/// One person with all rights.
pub(crate) struct User {
    client: Client,
    dice: Dice,
    trace: Trace,
    machines: usize,
    /// Changes Deployments and leaves pods, machines and namespaces in peace.
    gentle: bool,
    /// The most replicas of a Deployment.
    replicas: u64,
}

impl User {
    pub(crate) fn new(client: Client, seed: u64, trace: &Trace, machines: usize, gentle: bool) -> Self {
        let mut dice = Dice::of(seed, "user");
        // Few have large ones: they take long.
        let replicas = if dice.below(8) == 0 { 30 } else { 6 };
        Self {
            gentle,
            replicas,
            client,
            dice,
            trace: trace.clone(),
            machines,
        }
    }

    /// Begins with something in every namespace.
    pub(crate) async fn furnish(&mut self) -> Result<(), Status> {
        for namespace in NAMESPACES.iter().skip(1) {
            self.create_namespace(namespace).await?;
        }
        // Their accounts come soon after.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for namespace in NAMESPACES {
            for name in NAMES {
                self.create_deployment(namespace, name).await?;
                self.create_service(namespace, name).await?;
            }
        }
        Ok(())
    }

    /// Does something every now and then until the time is over.
    pub(crate) async fn act(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            let busy = self.dice.chance(500);
            let pause = if busy {
                self.dice.millis(0, 500)
            } else {
                self.dice.millis(1_000, 30_000)
            };
            tokio::time::sleep(pause).await;
            let outcome = self.act_once().await;
            if let Err(status) = outcome {
                self.trace.line(format!("user fails: {status}"));
            }
        }
    }

    async fn act_once(&mut self) -> Result<(), Status> {
        let namespace = *self.dice.pick(&NAMESPACES).expect("there are some");
        let name = *self.dice.pick(&NAMES).expect("there are some");
        let sides = if self.gentle { 75 } else { 100 };
        match self.dice.below(sides) {
            0..20 => self.create_deployment(namespace, name).await,
            20..40 => self.scale(namespace, name).await,
            40..55 => self.roll(namespace, name).await,
            55..60 => self.pause(namespace, name).await,
            60..66 => self.remove(&kinds::deployments(), namespace, name).await,
            66..73 => self.create_service(namespace, name).await,
            73..75 => self.remove(&kinds::services(), namespace, name).await,
            75..81 => self.remove_a_pod().await,
            81..83 => self.evict_a_pod().await,
            83..85 => self.relabel_a_pod().await,
            85..90 => self.create_namespace(namespace).await,
            90..92 => self.remove_namespace(namespace).await,
            92..95 => self.cordon().await,
            95..98 => self.taint().await,
            _ => self.remove_a_node().await,
        }
    }

    async fn create_deployment(&mut self, namespace: &str, name: &str) -> Result<(), Status> {
        let most = self.replicas;
        let dice = &mut self.dice;
        let (surge, unavailable) = match dice.below(4) {
            0 => (Value::from(1), Value::from(0)),
            1 => (Value::from(0), Value::from(1)),
            2 => (Value::from("50%"), Value::from("50%")),
            _ => (Value::from("25%"), Value::from("25%")),
        };
        // Always the same ones: see `is_stuck_as_upstream`.
        let strategy = if name == "db" {
            value!({"type": "Recreate"})
        } else {
            value!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": (surge), "maxUnavailable": (unavailable)}})
        };
        let (replicas, grace) = (dice.below(most + 1) as i64, dice.below(31) as i64);
        let labels = value!({"app": (name)});
        let deployment = value!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": (name), "namespace": (namespace)},
            "spec": {
                "replicas": (replicas), "selector": {"matchLabels": (labels.clone())}, "strategy": (strategy),
                "minReadySeconds": (dice.below(3) as i64 * 5), "revisionHistoryLimit": (dice.below(4) as i64),
                "template": {
                    "metadata": {"labels": (labels)},
                    "spec": {
                        "terminationGracePeriodSeconds": (grace),
                        "containers": [{
                            "name": "c", "image": (image(dice)),
                            "resources": {"requests": {"cpu": (format!("{}m", dice.between(5, 30) * 10))}}
                        }]
                    }
                }
            }
        });
        self.client
            .create(&kinds::deployments(), namespace, &deployment)
            .await
            .map(drop)
    }

    async fn patch_deployment(&self, namespace: &str, name: &str, patch: Value) -> Result<(), Status> {
        self.client
            .strategic_patch(&kinds::deployments(), namespace, name, "", &patch)
            .await
            .map(drop)
    }

    async fn scale(&mut self, namespace: &str, name: &str) -> Result<(), Status> {
        let replicas = self.dice.below(self.replicas + 1) as i64;
        let patch = value!({"spec": {"replicas": (replicas)}});
        self.patch_deployment(namespace, name, patch).await
    }

    /// A new image, or one of before: then it is a rollback.
    async fn roll(&mut self, namespace: &str, name: &str) -> Result<(), Status> {
        let image = image(&mut self.dice);
        let patch =
            value!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": (image)}]}}}});
        self.patch_deployment(namespace, name, patch).await
    }

    async fn pause(&mut self, namespace: &str, name: &str) -> Result<(), Status> {
        let paused = self.dice.below(2) == 0;
        let patch = value!({"spec": {"paused": (paused)}});
        self.patch_deployment(namespace, name, patch).await
    }

    async fn remove(
        &mut self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        let policies = ["Background", "Foreground", "Orphan"];
        let policy = *self.dice.pick(&policies).expect("there are some");
        let options = value!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": (policy)});
        self.client
            .delete(resource, namespace, name, &options)
            .await
            .map(drop)
    }

    async fn create_service(&mut self, namespace: &str, name: &str) -> Result<(), Status> {
        let kind = *self
            .dice
            .pick(&["ClusterIP", "NodePort"])
            .expect("there are some");
        let service = value!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": (name), "namespace": (namespace)},
            "spec": {"type": (kind), "selector": {"app": (name)}, "ports": [{"port": 80}]}
        });
        self.client
            .create(&kinds::services(), namespace, &service)
            .await
            .map(drop)
    }

    async fn remove_a_pod(&mut self) -> Result<(), Status> {
        let Some(pod) = self.a_pod().await? else {
            return Ok(());
        };
        let options = match self.dice.below(3) {
            0 => value!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}),
            1 => value!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 3}),
            _ => Value::Null,
        };
        self.client
            .delete(&kinds::pods(), &pod.key.namespace, &pod.key.name, &options)
            .await
            .map(drop)
    }

    async fn a_pod(&mut self) -> Result<Option<Arc<Object>>, Status> {
        let pods = self.client.list(&kinds::pods(), "", Params::default()).await?;
        Ok(self.dice.pick(&pods.items).cloned())
    }

    async fn evict_a_pod(&mut self) -> Result<(), Status> {
        let Some(pod) = self.a_pod().await? else {
            return Ok(());
        };
        let (namespace, name) = (&pod.key.namespace, &pod.key.name);
        let eviction = value!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": (name.as_str()), "namespace": (namespace.as_str())}
        });
        let evicted = self
            .client
            .create_subresource(&kinds::pods(), namespace, name, "eviction", &eviction)
            .await;
        evicted.map(drop)
    }

    /// Takes the pod away from its set, or gives it to that of another Deployment.
    async fn relabel_a_pod(&mut self) -> Result<(), Status> {
        let Some(pod) = self.a_pod().await? else {
            return Ok(());
        };
        let app = *self.dice.pick(&["web", "api", "nobody"]).expect("there are some");
        let patch = value!({"metadata": {"labels": {"app": (app)}}});
        self.client
            .merge_patch(&kinds::pods(), &pod.key.namespace, &pod.key.name, "", &patch)
            .await
            .map(drop)
    }

    async fn create_namespace(&mut self, namespace: &str) -> Result<(), Status> {
        let object = value!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": (namespace)}});
        self.client
            .create(&kinds::namespaces(), "", &object)
            .await
            .map(drop)
    }

    async fn remove_namespace(&mut self, namespace: &str) -> Result<(), Status> {
        if namespace == "default" {
            return Ok(());
        }
        self.client
            .delete(&kinds::namespaces(), "", namespace, &Value::Null)
            .await
            .map(drop)
    }

    /// An administrator gives a machine up; its agent may be of another mind.
    async fn remove_a_node(&mut self) -> Result<(), Status> {
        let node = self.a_node();
        let removed = self.client.delete(&kinds::nodes(), "", &node, &Value::Null).await;
        removed.map(drop)
    }

    async fn cordon(&mut self) -> Result<(), Status> {
        let unschedulable = self.dice.below(2) == 0;
        let patch = value!({"spec": {"unschedulable": (unschedulable)}});
        self.patch_a_node(patch).await
    }

    async fn taint(&mut self) -> Result<(), Status> {
        let effects = ["NoSchedule", "NoExecute", "PreferNoSchedule"];
        let effect = *self.dice.pick(&effects).expect("there are some");
        let effect = (self.dice.below(2) == 0).then_some(effect);
        let node = self.a_node();
        self.set_taint(&node, effect).await
    }

    /// As `kubectl taint` does it: the list is read and put back.
    async fn set_taint(&self, node: &str, effect: Option<&str>) -> Result<(), Status> {
        let now = self.client.get(&kinds::nodes(), "", node).await?;
        let tree = now.tree();
        let others = tree.items_at(&["spec", "taints"]).iter();
        let others = others.filter(|taint| taint.str_at(&["key"]) != Some("mine"));
        let mine = effect.map(|effect| value!({"key": "mine", "effect": (effect)}));
        let taints: Vec<Value> = others.cloned().chain(mine).collect();
        let version = now.revision.to_string();
        let patch = value!({"metadata": {"resourceVersion": (version)}, "spec": {"taints": (taints)}});
        self.client
            .merge_patch(&kinds::nodes(), "", node, "", &patch)
            .await
            .map(drop)
    }

    fn a_node(&mut self) -> String {
        format!("node-{}", self.dice.below(self.machines as u64))
    }

    async fn patch_a_node(&mut self, patch: Value) -> Result<(), Status> {
        let node = self.a_node();
        self.client
            .strategic_patch(&kinds::nodes(), "", &node, "", &patch)
            .await
            .map(drop)
    }

    /// Puts the cluster into a state in which everything can run: no taints, no cordons, nothing paused, modest sizes.
    pub(crate) async fn tidy_up(&self) -> Result<(), Status> {
        let nodes = self.client.list(&kinds::nodes(), "", Params::default()).await?;
        for node in &nodes.items {
            let name = &node.key.name;
            let patch = value!({"spec": {"unschedulable": null}});
            self.client
                .strategic_patch(&kinds::nodes(), "", name, "", &patch)
                .await?;
            while let Err(status) = self.set_taint(name, None).await {
                if status.reason != Reason::Conflict {
                    return Err(status);
                }
            }
        }
        let deployments = self
            .client
            .list(&kinds::deployments(), "", Params::default())
            .await?;
        for deployment in &deployments.items {
            let replicas = deployment
                .tree()
                .int_at(&["spec", "replicas"])
                .unwrap_or(1)
                .min(3);
            let patch = value!({"spec": {"paused": null, "replicas": (replicas)}});
            let (namespace, name) = (&deployment.key.namespace, &deployment.key.name);
            match self.patch_deployment(namespace, name, patch).await {
                // It was on its way out.
                Err(status) if status.code == 404 => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

fn image(dice: &mut Dice) -> String {
    format!("app:{}", dice.below(IMAGES))
}
