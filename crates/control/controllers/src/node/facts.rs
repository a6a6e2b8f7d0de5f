//! What controllers know of a node.

use std::sync::Arc;

use cloudeck_machinery::{Object, Value};

use super::health::is_ready;
use crate::view::Facts;

/// A node, read once per revision.
pub(crate) struct Node {
    pub(crate) object: Arc<Object>,
    pub(crate) ready: bool,
    /// Its taints of the effect `NoExecute`.
    pub(crate) evicting: Vec<Value>,
}

impl Facts for Node {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let tree = object.tree();
        let taints = tree.items_at(&["spec", "taints"]).iter();
        let evicting = taints.filter(|taint| taint.str_at(&["effect"]) == Some("NoExecute"));
        Ok(Self {
            ready: is_ready(&tree),
            evicting: evicting.cloned().collect(),
            object,
        })
    }

    fn object(&self) -> &Arc<Object> {
        &self.object
    }
}
