//! What the scheduler watches beside pods and nodes.

use cloudeck_client::{Change, Client, Informer, InformerConfig, Subscription};
use cloudeck_task::Scope;

use crate::surroundings::{Surroundings, WORKLOADS};

/// Group, version, resource.
const WATCHED: [(&str, &str, &str); 6] = [
    ("", "v1", "namespaces"),
    ("", "v1", "services"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("", "v1", "replicationcontrollers"),
    ("apps", "v1", "replicasets"),
    ("apps", "v1", "statefulsets"),
];

/// The informers, in the order of [`WATCHED`].
#[derive(Clone)]
pub(super) struct Watches([Informer; 6]);

impl Watches {
    pub(super) fn start(scope: &Scope, client: &Client) -> Self {
        Self(WATCHED.map(|(group, version, resource)| {
            let config = InformerConfig::all(group, version, resource);
            Informer::start(scope, client.clone(), config)
        }))
    }

    pub(super) async fn synced(&self) {
        for informer in &self.0 {
            informer.synced().await;
        }
    }

    pub(super) fn subscribe(&self) -> Changes {
        Changes(self.0.each_ref().map(Informer::subscribe))
    }
}

/// Their changes.
pub(super) struct Changes([Subscription; 6]);

impl Changes {
    /// Takes over what has changed already.
    pub(super) fn take_all(&mut self, surroundings: &mut Surroundings) {
        for (at, changes) in self.0.iter_mut().enumerate() {
            while let Some(change) = changes.try_next() {
                take(surroundings, at, &change);
            }
        }
    }

    /// Waits for a change and takes it over.
    pub(super) async fn take_next(&mut self, surroundings: &mut Surroundings) {
        let [namespaces, services, budgets, controllers, sets, stateful] = &mut self.0;
        let (at, change) = tokio::select! {
            change = namespaces.next() => (0, change),
            change = services.next() => (1, change),
            change = budgets.next() => (2, change),
            change = controllers.next() => (3, change),
            change = sets.next() => (4, change),
            change = stateful.next() => (5, change),
        };
        take(surroundings, at, &change);
    }
}

fn take(surroundings: &mut Surroundings, at: usize, change: &Change) {
    let (key, object) = (&change.key, change.new.as_deref());
    match at {
        0 => surroundings.set_namespace(key, object),
        1 => surroundings.set_service(key, object),
        2 => surroundings.set_budget(key, object),
        _ => surroundings.set_workload(WORKLOADS[at - 3], key, object),
    }
}
