//! The controllers of object life cycles: nodes, namespaces, garbage, aggregated roles, events.
//!
//! Each watches through shared informers, decides with a pure function and writes under the service account that
//! upstream gives it, with upstream's default role.
//!
//! Absences: no polling and no clock in a decision; timers stand only where the domain has time in it (the grace of a
//! silent node, a tolerated taint, the age of an event). Not here: workloads, endpoints, service accounts and the root
//! CA (`cloudeck-controllers`).
//!
//! Start reading at [`start`], then `node`, which has the shape of all of them.

mod caches;
mod clock;
mod cluster_role;
mod event_expiry;
mod garbage;
mod kinds;
mod namespace;
mod node;
mod pod;
mod pod_gc;
mod taint_eviction;
mod write;

use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::Client;
use cloudeck_task::Scope;
use tokio::sync::watch;

use caches::Caches;
use clock::Clock;
use cluster_role::ClusterRoles;
use event_expiry::EventExpiry;
use garbage::Garbage;
use namespace::Namespaces;
use node::{Grace, Nodes};
use pod_gc::{PodGc, PodGcLimits};
use taint_eviction::TaintEviction;

/// The identity that watches for all controllers: the one whose own work needs every kind.
const WATCHER: &str = "generic-garbage-collector";

/// What the controllers are told; the defaults are upstream's.
#[derive(Debug, Clone)]
pub struct LifecycleConfig {
    /// How long a node may be silent.
    pub node_monitor_grace: Duration,
    /// How long a node may take to tell its first status.
    pub node_startup_grace: Duration,
    /// How long a node must be gone before its pods are deleted.
    pub gone_node_quarantine: Duration,
    /// How many finished pods are kept.
    pub finished_pods: usize,
    /// How long events are kept after they were last written.
    pub event_lifetime: Duration,
}

impl Default for LifecycleConfig {
    fn default() -> Self {
        Self {
            node_monitor_grace: Duration::from_secs(50),
            node_startup_grace: Duration::from_mins(1),
            gone_node_quarantine: Duration::from_secs(40),
            finished_pods: 12_500,
            event_lifetime: Duration::from_hours(1),
        }
    }
}

/// The running controllers. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle {
    ready: Arc<watch::Sender<bool>>,
}

impl Lifecycle {
    /// Resolves when the caches are filled and the loops run.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

/// Starts all controllers; they end with the scope. `client` gives a client that acts as the named service account of
/// `kube-system`.
pub fn start(config: LifecycleConfig, client: &dyn Fn(&str) -> Client, scope: &Scope) -> Lifecycle {
    let caches = Caches::start(&client(WATCHER), scope);
    let all = All::new(&config, client, &caches, &clock::system_clock(), scope);
    let ready = Arc::new(watch::Sender::new(false));
    let lifecycle = Lifecycle {
        ready: Arc::clone(&ready),
    };
    let children = scope.clone();
    scope.spawn_until_shutdown("life-cycle controllers", async move {
        caches.synced().await;
        all.run(&children);
        ready.send_replace(true);
    });
    lifecycle
}

/// All controllers: made first, run once the caches are filled.
struct All {
    nodes: Nodes,
    taint_eviction: TaintEviction,
    pod_gc: PodGc,
    namespaces: Namespaces,
    garbage: Garbage,
    cluster_roles: ClusterRoles,
    event_expiry: EventExpiry,
}

impl All {
    fn new(
        config: &LifecycleConfig,
        client: &dyn Fn(&str) -> Client,
        caches: &Caches,
        clock: &Clock,
        scope: &Scope,
    ) -> Self {
        let grace = Grace {
            startup: config.node_startup_grace,
            monitor: config.node_monitor_grace,
        };
        let limits = PodGcLimits {
            finished: config.finished_pods,
            quarantine: config.gone_node_quarantine,
        };
        Self {
            nodes: Nodes::new(client("node-controller"), caches, grace, clock.clone(), scope),
            taint_eviction: TaintEviction::new(client("node-controller"), caches, clock.clone(), scope),
            pod_gc: PodGc::new(client("pod-garbage-collector"), caches, limits, clock.clone()),
            namespaces: Namespaces::new(client("namespace-controller"), caches, clock.clone()),
            garbage: Garbage::new(client("generic-garbage-collector"), caches, scope),
            cluster_roles: ClusterRoles::new(client("clusterrole-aggregation-controller"), caches),
            event_expiry: EventExpiry::new(client(WATCHER), caches, config.event_lifetime, clock.clone()),
        }
    }

    fn run(&self, scope: &Scope) {
        // Taken apart, so that a forgotten one does not compile.
        let Self {
            nodes,
            taint_eviction,
            pod_gc,
            namespaces,
            garbage,
            cluster_roles,
            event_expiry,
        } = self;
        nodes.run(scope);
        taint_eviction.run(scope);
        pod_gc.run(scope);
        namespaces.run(scope);
        garbage.run(scope);
        cluster_roles.run(scope);
        event_expiry.run(scope);
    }
}
