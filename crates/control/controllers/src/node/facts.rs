//! What controllers know of a node.

use std::sync::Arc;

use cloudeck_machinery::{Object, Value};

use super::health::is_ready;
use crate::view::Facts;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A node, read once per revision.
pub(crate) struct Node {
    pub(crate) object: Arc<Object>,
    pub(crate) ready: bool,
    /// Its taints of the effect `NoExecute`.
    pub(crate) evicting: Vec<Value>,
    /// Not ready, and a person has said that it is shut down: its pods will never end by themselves.
    pub(crate) out_of_service: bool,
}

impl Facts for Node {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let tree = object.tree();
        let taints = tree.items_at(&["spec", "taints"]);
        let ready = is_ready(&tree);
        let evicting = taints
            .iter()
            .filter(|taint| taint.str_at(&["effect"]) == Some("NoExecute"));
        Ok(Self {
            ready,
            evicting: evicting.cloned().collect(),
            out_of_service: !ready
                && taints
                    .iter()
                    .any(|taint| taint.str_at(&["key"]) == Some(OUT_OF_SERVICE)),
            object,
        })
    }

    fn object(&self) -> &Arc<Object> {
        &self.object
    }
}
