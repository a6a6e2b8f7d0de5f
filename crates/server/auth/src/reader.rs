//! Reading other objects: the one thing authentication and admission need from the server.

use std::sync::Arc;

use cloudeck_machinery::Object;

/// Reads current objects. The API server implements it on its watch caches, which are as fresh as the last
/// acknowledged write; tests on a map.
///
/// `namespace` is empty for cluster-scoped resources; in [`ObjectReader::list`] an empty one means all namespaces.
pub trait ObjectReader: Send + Sync {
    /// One object, if it exists.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>>;

    /// All objects of a namespace, in key order.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>>;
}
