//! Config maps and secrets that volumes on this node are made of: watched one by one, shared by the pods that use them.
//!
//! A node may read only what its pods name, so there is no watch over all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cloudeck_client::{Client, Informer, InformerConfig};
use cloudeck_task::Scope;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConfigReference {
    /// `configmaps` or `secrets`.
    pub resource: &'static str,
    pub namespace: String,
    pub name: String,
}

/// A watched object; the watch ends with its last holder.
pub struct Watched {
    pub informer: Informer,
    scope: Scope,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.scope.request_shutdown();
    }
}

/// The watches of a node.
#[derive(Default)]
pub struct ConfigObjects {
    watched: Mutex<HashMap<ConfigReference, Weak<Watched>>>,
}

impl ConfigObjects {
    /// Joins or begins the watch of an object.
    pub fn watch(&self, scope: &Scope, client: &Client, reference: &ConfigReference) -> Arc<Watched> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, held| held.strong_count() > 0);
        if let Some(held) = watched.get(reference).and_then(Weak::upgrade) {
            return held;
        }
        let own = scope.child("config object");
        let config = InformerConfig {
            namespace: reference.namespace.clone(),
            field_selector: format!("metadata.name={}", reference.name),
            ..InformerConfig::all("", "v1", reference.resource)
        };
        let held = Arc::new(Watched {
            informer: Informer::start(&own, client.clone(), config),
            scope: own,
        });
        watched.insert(reference.clone(), Arc::downgrade(&held));
        held
    }
}
