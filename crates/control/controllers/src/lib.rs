//! The controllers of kube-controller-manager.
//!
//! Each watches through shared informers, decides with a pure function and writes under the service account that
//! upstream gives it, with upstream's default role. Queues hold keys only.
//!
//! Absences: no clock or randomness in a decision, no polling, no list outside the informers, no decoded object that is
//! written back (writes are value trees, deletions and patches). Not here: Jobs, DaemonSets, StatefulSets, volumes,
//! quotas, disruption budgets, certificates.
//!
//! Elsewhere (`crates/control/lifecycle`, written by somebody else): garbage collection, namespace life cycle, cluster-role
//! aggregation, node life cycle, event expiry. Here: ReplicaSet, Deployment, EndpointSlice, Endpoints and mirroring,
//! service accounts, root CA.
//!
//! Start reading at [`start`], then `replicaset`, which has the shape of all of them.

mod claim;
mod clock;
mod cluster_roles;
mod deployment;
mod endpoints;
mod everything;
mod expiry;
mod garbage;
mod kinds;
mod namespace;
mod node;
mod pending;
mod pod;
mod replicaset;
mod root_ca;
mod service_account;
mod view;
mod write;

use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_task::Scope;
use tokio::sync::watch;

use clock::Clock;
use cluster_roles::{ClusterRole, ClusterRoles};
use deployment::Deployments;
use deployment::facts::Deployment;
use endpoints::service::Service;
use endpoints::{EndpointSlices, LegacyEndpoints, Mirror, Slice};
use everything::{Everything, Informers};
use expiry::EventExpiry;
use garbage::GarbageCollector;
use namespace::Namespaces;
use node::Nodes;
use node::eviction::Evictions;
use node::orphans::OrphanedPods;
use pod::Pod;
use replicaset::ReplicaSets;
use replicaset::facts::ReplicaSet;
use root_ca::RootCa;
use service_account::ServiceAccounts;
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
    let clock = clock::system_clock();
    let informers = Informers::new(client(WATCHER), scope);
    let (views, everything) = (Views::new(&informers), Everything::new(&informers));
    let all = All::new(&config, client, scope, (&views, &everything), &clock);
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
        all.run(&children);
        ready.send_replace(true);
    });
    controllers
}

/// All controllers. Made first, so that each has its handlers in place before anything changes; run once the views are
/// filled.
struct All {
    replica_sets: ReplicaSets,
    deployments: Deployments,
    endpoint_slices: EndpointSlices,
    endpoints: LegacyEndpoints,
    mirror: Mirror,
    service_accounts: ServiceAccounts,
    root_ca: RootCa,
    cluster_roles: ClusterRoles,
    garbage: GarbageCollector,
    namespaces: Namespaces,
    nodes: Nodes,
    evictions: Evictions,
    orphaned_pods: OrphanedPods,
    event_expiry: EventExpiry,
}

impl All {
    fn new(
        config: &ControllersConfig,
        client: &dyn Fn(&str) -> Client,
        scope: &Scope,
        (views, everything): (&Views, &Everything),
        clock: &Clock,
    ) -> Self {
        Self {
            replica_sets: ReplicaSets::new(
                client("replicaset-controller"),
                scope,
                &views.replica_sets,
                &views.pods,
                clock.clone(),
            ),
            deployments: Deployments::new(
                client("deployment-controller"),
                scope,
                &views.deployments,
                &views.replica_sets,
                &views.pods,
                clock.clone(),
            ),
            endpoint_slices: EndpointSlices::new(
                client("endpointslice-controller"),
                &views.services,
                &views.pods,
                &views.nodes,
                &views.endpoint_slices,
            ),
            endpoints: LegacyEndpoints::new(
                client("endpoint-controller"),
                &views.services,
                &views.pods,
                &views.endpoints,
            ),
            mirror: Mirror::new(
                client("endpointslicemirroring-controller"),
                scope,
                &views.services,
                &views.endpoints,
                &views.endpoint_slices,
            ),
            service_accounts: ServiceAccounts::new(
                client("service-account-controller"),
                &views.namespaces,
                &views.service_accounts,
            ),
            root_ca: RootCa::new(
                client("root-ca-cert-publisher"),
                &config.root_ca_pem,
                &views.namespaces,
                &views.config_maps,
            ),
            cluster_roles: ClusterRoles::new(
                client("clusterrole-aggregation-controller"),
                &views.cluster_roles,
            ),
            garbage: GarbageCollector::new(client("generic-garbage-collector"), everything),
            namespaces: Namespaces::new(
                client("namespace-controller"),
                &views.namespaces,
                everything,
                clock.clone(),
            ),
            nodes: Nodes::new(
                client("node-controller"),
                scope,
                (&views.nodes, &views.leases, &views.pods),
                clock.clone(),
            ),
            evictions: Evictions::new(
                client("node-controller"),
                scope,
                (&views.nodes, &views.pods),
                clock.clone(),
            ),
            orphaned_pods: OrphanedPods::new(
                client("pod-garbage-collector"),
                (&views.nodes, &views.pods),
                clock.clone(),
            ),
            // No role of upstream's is for this, because there the server does it; this one may delete anything.
            event_expiry: EventExpiry::new(client(WATCHER), &views.events, clock.clone()),
        }
    }

    fn run(&self, scope: &Scope) {
        // Taken apart, so that a forgotten one does not compile.
        let Self {
            replica_sets,
            deployments,
            endpoint_slices,
            endpoints,
            mirror,
            service_accounts,
            root_ca,
            cluster_roles,
            garbage,
            namespaces,
            nodes,
            evictions,
            orphaned_pods,
            event_expiry,
        } = self;
        replica_sets.run(scope);
        deployments.run(scope);
        endpoint_slices.run(scope);
        endpoints.run(scope);
        mirror.run(scope);
        service_accounts.run(scope);
        root_ca.run(scope);
        cluster_roles.run(scope);
        garbage.run(scope);
        namespaces.run(scope);
        nodes.run(scope);
        evictions.run(scope);
        orphaned_pods.run(scope);
        event_expiry.run(scope);
    }
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
    services: Service,
    endpoints: Whole,
    endpoint_slices: Slice,
    nodes: Whole,
    leases: Whole,
    events: Whole,
    namespaces: Whole,
    service_accounts: Whole,
    config_maps: Whole,
    cluster_roles: ClusterRole,
}
