//! The controllers of kube-controller-manager.
//!
//! Each watches through shared informers, decides with a pure function and writes under the service account that
//! upstream gives it, with upstream's default role. Queues hold keys only.
//!
//! Absences: no clock or randomness in a decision, no polling, no list outside the informers (but of a namespace that
//! ends), no decoded object that is written back (writes are value trees, patches and deletions). Knows neither the
//! server's insides nor the store. Not here: Jobs, DaemonSets, StatefulSets, volumes, certificates, rates of eviction by
//! zone.
//!
//! Start reading at [`start`], then `replicaset`, which has the shape of all of them.

mod claim;
mod clock;
mod cluster_roles;
mod deployment;
mod disruption;
mod endpoints;
mod everything;
mod expiry;
mod finished;
mod garbage;
mod kinds;
mod namespace;
mod node;
mod pending;
mod pod;
mod quota;
mod replicaset;
mod root_ca;
mod service_account;
mod service_range;
mod view;
mod write;

use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::Client;
use cloudeck_task::Scope;
use tokio::sync::watch;

use clock::Clock;
use cluster_roles::{ClusterRole, ClusterRoles};
use deployment::Deployments;
use deployment::facts::Deployment;
use disruption::{Budget, Disruptions};
use endpoints::service::Service;
use endpoints::{EndpointSlices, LegacyEndpoints, Mirror, Slice};
use everything::{Everything, Informers};
use expiry::EventExpiry;
use finished::FinishedPods;
use garbage::GarbageCollector;
use namespace::Namespaces;
use node::Nodes;
use node::eviction::Evictions;
use node::facts::Node;
use node::orphans::OrphanedPods;
use pod::Pod;
use quota::Quotas;
use replicaset::ReplicaSets;
use replicaset::facts::ReplicaSet;
use root_ca::RootCa;
use service_account::ServiceAccounts;
use service_range::ServiceRanges;
use view::{View, Whole};

/// The identity that watches for all controllers. Of the identities whose default role may list and watch every kind
/// it is the one whose own work needs them all.
const WATCHER: &str = "generic-garbage-collector";

/// What the controllers are told.
#[derive(Debug, Clone)]
pub struct ControllersConfig {
    /// Published to every namespace as `kube-root-ca.crt`.
    pub root_ca_pem: String,
    pub cluster_domain: String,
}

/// How long things may take, and how much may be left over; the defaults are upstream's.
#[derive(Debug, Clone)]
pub struct Timings {
    /// How long a node may be silent.
    pub node_grace: Duration,
    /// How long a new node may take to speak for the first time.
    pub node_startup_grace: Duration,
    /// How long a node must be gone before its pods are deleted.
    pub gone_node_quarantine: Duration,
    /// How long events are kept after they were last written.
    pub event_lifetime: Duration,
    /// How many finished pods are kept.
    pub finished_pods: usize,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            node_grace: Duration::from_secs(50),
            node_startup_grace: Duration::from_mins(1),
            gone_node_quarantine: Duration::from_secs(40),
            event_lifetime: Duration::from_hours(1),
            finished_pods: 12_500,
        }
    }
}

/// The running controllers. Cheap to clone.
#[derive(Clone)]
pub struct Controllers {
    ready: Arc<watch::Sender<bool>>,
}

impl Controllers {
    /// Resolves when the caches are filled and the loops run.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

/// Starts all controllers; they end with the scope. `client` gives a client that acts as the named service account of
/// `kube-system`.
pub fn start(config: ControllersConfig, client: &dyn Fn(&str) -> Client, scope: &Scope) -> Controllers {
    start_with(config, &Timings::default(), client, scope)
}

/// As [`start`], with other timings.
pub fn start_with(
    config: ControllersConfig,
    timings: &Timings,
    client: &dyn Fn(&str) -> Client,
    scope: &Scope,
) -> Controllers {
    let clock = clock::system_clock();
    let informers = Informers::new(client(WATCHER), scope);
    let (views, everything) = (Views::new(&informers), Everything::new(&informers));
    let parts = Parts {
        client,
        scope,
        views: &views,
        everything: &everything,
        clock: &clock,
        timings,
    };
    let all = all(&config, &parts);
    views.follow(scope);
    everything.follow(scope);
    let ready = Arc::new(watch::Sender::new(false));
    let controllers = Controllers {
        ready: Arc::clone(&ready),
    };
    let children = scope.clone();
    scope.spawn_until_shutdown("controllers", async move {
        views.filled().await;
        everything.filled().await;
        for controller in &all {
            controller.run(&children);
        }
        ready.send_replace(true);
    });
    controllers
}

/// A controller with its handlers in place.
trait Controller: Send + Sync {
    /// Starts its workers. Called once the views are filled.
    fn run(&self, scope: &Scope);
}

macro_rules! controllers {
    ($($name:ty),* $(,)?) => {
        $(impl Controller for $name {
            fn run(&self, scope: &Scope) {
                <$name>::run(self, scope);
            }
        })*
    };
}

controllers![
    ReplicaSets,
    Deployments,
    Disruptions,
    EndpointSlices,
    LegacyEndpoints,
    Mirror,
    ServiceRanges,
    ServiceAccounts,
    RootCa,
    ClusterRoles,
    GarbageCollector,
    Quotas,
    Namespaces,
    Nodes,
    Evictions,
    OrphanedPods,
    FinishedPods,
    EventExpiry,
];

/// What controllers are made of.
struct Parts<'a> {
    client: &'a dyn Fn(&str) -> Client,
    scope: &'a Scope,
    views: &'a Views,
    everything: &'a Everything,
    clock: &'a Clock,
    timings: &'a Timings,
}

/// All controllers, each under its own service account. Making one registers its handlers, so all are made before
/// anything is followed.
fn all(config: &ControllersConfig, parts: &Parts<'_>) -> Vec<Box<dyn Controller>> {
    let mut all = workloads(parts);
    all.extend(services(parts));
    all.extend(content(config, parts));
    all.extend(nodes(parts));
    all
}

fn workloads(parts: &Parts<'_>) -> Vec<Box<dyn Controller>> {
    let Parts {
        client,
        scope,
        views,
        everything,
        clock,
        ..
    } = parts;
    let (sets, pods) = (&views.replica_sets, &views.pods);
    vec![
        Box::new(ReplicaSets::new(
            client("replicaset-controller"),
            scope,
            sets,
            pods,
            (*clock).clone(),
        )),
        Box::new(Deployments::new(
            client("deployment-controller"),
            scope,
            (&views.deployments, sets, pods),
            (*clock).clone(),
        )),
        Box::new(Disruptions::new(
            client("disruption-controller"),
            scope,
            (&views.disruption_budgets, pods, sets, &views.deployments),
            everything,
            (*clock).clone(),
        )),
    ]
}

fn services(parts: &Parts<'_>) -> Vec<Box<dyn Controller>> {
    let Parts {
        client,
        scope,
        views,
        everything,
        clock,
        ..
    } = parts;
    let (services, pods, slices) = (&views.services, &views.pods, &views.endpoint_slices);
    let slices_client = client("endpointslice-controller");
    let mirror_client = client("endpointslicemirroring-controller");
    vec![
        Box::new(EndpointSlices::new(
            slices_client,
            services,
            pods,
            &views.nodes,
            slices,
        )),
        Box::new(LegacyEndpoints::new(
            client("endpoint-controller"),
            services,
            pods,
            &views.endpoints,
        )),
        Box::new(Mirror::new(
            mirror_client,
            scope,
            services,
            &views.endpoints,
            slices,
        )),
        Box::new(ServiceRanges::new(
            client("service-cidrs-controller"),
            everything,
            (*clock).clone(),
        )),
    ]
}

fn content(config: &ControllersConfig, parts: &Parts<'_>) -> Vec<Box<dyn Controller>> {
    let Parts {
        client,
        scope,
        views,
        everything,
        clock,
        timings,
    } = parts;
    let namespaces = &views.namespaces;
    let accounts_client = client("service-account-controller");
    let root_ca_client = client("root-ca-cert-publisher");
    let namespace_client = client("namespace-controller");
    vec![
        Box::new(ServiceAccounts::new(
            accounts_client,
            namespaces,
            &views.service_accounts,
        )),
        Box::new(RootCa::new(
            root_ca_client,
            &config.root_ca_pem,
            namespaces,
            &views.config_maps,
        )),
        Box::new(ClusterRoles::new(
            client("clusterrole-aggregation-controller"),
            &views.cluster_roles,
        )),
        Box::new(GarbageCollector::new(
            client("generic-garbage-collector"),
            scope,
            everything,
        )),
        Box::new(Quotas::new(
            client("resourcequota-controller"),
            &views.resource_quotas,
            everything,
            (*clock).clone(),
        )),
        Box::new(Namespaces::new(
            namespace_client,
            namespaces,
            everything,
            (*clock).clone(),
        )),
        // No role of upstream's is for this, because there the server does it; this one may delete anything.
        Box::new(EventExpiry::new(
            client(WATCHER),
            &views.events,
            timings.event_lifetime,
            (*clock).clone(),
        )),
    ]
}

fn nodes(parts: &Parts<'_>) -> Vec<Box<dyn Controller>> {
    let Parts {
        client,
        scope,
        views,
        clock,
        timings,
        ..
    } = parts;
    let (nodes, pods) = (&views.nodes, &views.pods);
    let of_nodes = (nodes, &views.leases, pods);
    let evictions_client = client("node-controller");
    vec![
        Box::new(Nodes::new(
            client("node-controller"),
            scope,
            of_nodes,
            timings,
            (*clock).clone(),
        )),
        Box::new(Evictions::new(
            evictions_client,
            scope,
            (nodes, pods),
            (*clock).clone(),
        )),
        Box::new(OrphanedPods::new(
            client("pod-garbage-collector"),
            (nodes, pods),
            timings.gone_node_quarantine,
            (*clock).clone(),
        )),
        Box::new(FinishedPods::new(
            client("pod-garbage-collector"),
            pods,
            timings.finished_pods,
        )),
    ]
}

macro_rules! views {
    ($($name:ident: $facts:ty),* $(,)?) => {
        /// One view of each kind for all controllers.
        struct Views {
            $($name: View<$facts>,)*
        }

        impl Views {
            fn new(informers: &Informers) -> Self {
                Self { $($name: View::new(informers.of(kinds::$name())),)* }
            }

            fn follow(&self, scope: &Scope) {
                $(self.$name.follow(scope);)*
            }

            async fn filled(&self) {
                $(self.$name.filled().await;)*
            }
        }
    };
}

views! {
    pods: Pod,
    replica_sets: ReplicaSet,
    deployments: Deployment,
    disruption_budgets: Budget,
    services: Service,
    endpoints: Whole,
    endpoint_slices: Slice,
    nodes: Node,
    leases: Whole,
    events: Whole,
    namespaces: Whole,
    resource_quotas: Whole,
    service_accounts: Whole,
    config_maps: Whole,
    cluster_roles: ClusterRole,
}
