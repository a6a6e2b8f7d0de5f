//! What the controllers know of an EndpointSlice.

use std::sync::Arc;

use cloudeck_machinery::Object;

use crate::pod::Owner;
use crate::replicaset::facts::owner;
use crate::view::Facts;

pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// An EndpointSlice.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) object: Arc<Object>,
    owner: Option<Owner>,
    deleting: bool,
}

impl Facts for Slice {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let tree = object.tree();
        Ok(Self {
            owner: owner(&tree),
            deleting: tree.at(&["metadata", "deletionTimestamp"]).is_some(),
            object,
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

impl Slice {
    pub(super) fn is_managed_by(&self, manager: &str) -> bool {
        self.object.label(MANAGED_BY) == Some(manager)
    }
}
