//! What controllers know of a ReplicaSet.

use std::sync::Arc;

use cloudeck_machinery::{LabelSelector, Object, Time, Value};

use crate::pod::Owner;
use crate::view::Facts;

/// A ReplicaSet, read once per revision.
#[derive(Debug)]
pub(crate) struct ReplicaSet {
    pub(crate) object: Arc<Object>,
    /// The whole, for writing it back.
    pub(crate) tree: Value,
    pub(crate) owner: Option<Owner>,
    pub(crate) selector: LabelSelector,
    pub(crate) replicas: i64,
    pub(crate) min_ready_seconds: i64,
    pub(crate) deleting: bool,
    pub(crate) created: Option<Time>,
}

impl Facts for ReplicaSet {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let tree = object.tree();
        let selector =
            LabelSelector::from_value(tree.at(&["spec", "selector"])).map_err(|error| error.to_string())?;
        Ok(Self {
            owner: owner(&tree),
            selector,
            replicas: tree.int_at(&["spec", "replicas"]).unwrap_or(1),
            min_ready_seconds: tree.int_at(&["spec", "minReadySeconds"]).unwrap_or(0),
            deleting: tree.at(&["metadata", "deletionTimestamp"]).is_some(),
            created: time_at(&tree, &["metadata", "creationTimestamp"]),
            object,
            tree,
        })
    }

    fn object(&self) -> &Arc<Object> {
        &self.object
    }

    fn controller_uid(&self) -> Option<&str> {
        self.owner.as_ref().map(|owner| owner.uid.as_str())
    }

    fn is_deleting(&self) -> bool {
        self.deleting
    }
}

impl ReplicaSet {
    pub(crate) fn generation(&self) -> i64 {
        self.tree.int_at(&["metadata", "generation"]).unwrap_or(0)
    }

    /// A count of the status, zero when absent.
    pub(crate) fn count(&self, field: &str) -> i64 {
        self.tree.int_at(&["status", field]).unwrap_or(0)
    }
}

/// The controlling owner of an object.
pub(crate) fn owner(tree: &Value) -> Option<Owner> {
    let references = tree.items_at(&["metadata", "ownerReferences"]);
    let owner = references
        .iter()
        .find(|reference| reference.bool_at(&["controller"]) == Some(true))?;
    let text = |field| owner.str_at(&[field]).unwrap_or_default().into();
    Some(Owner {
        kind: text("kind"),
        name: text("name"),
        uid: text("uid"),
    })
}

pub(crate) fn time_at(tree: &Value, path: &[&str]) -> Option<Time> {
    Time::parse(tree.str_at(path)?).ok()
}
