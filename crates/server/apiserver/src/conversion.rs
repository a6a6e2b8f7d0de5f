//! The two kinds that are served in two versions: how a view's form and the stored form turn into each other.
//!
//! Stored are `v1` Events (as upstream) and `autoscaling/v2` scalers; everything else is stored as it is served.

mod autoscaling;
mod event;

use std::sync::Arc;

use cloudeck_machinery::{Object, Value};
use cloudeck_schema::ResourceInfo;

use crate::kinds::View;

/// How a view differs from its storage kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    Identity,
    /// `events.k8s.io/v1` over core `v1`.
    Event,
    /// `autoscaling/v1` over `autoscaling/v2`.
    ScalerV1,
}

impl Conversion {
    pub(crate) fn between(stored: &ResourceInfo, served: &ResourceInfo) -> Self {
        if (stored.group, stored.version) == (served.group, served.version) {
            Self::Identity
        } else if served.group == "events.k8s.io" {
            Self::Event
        } else {
            Self::ScalerV1
        }
    }

    /// Turns the view's form into the stored form.
    pub(crate) fn store(self, view: &View, tree: &mut Value) {
        match self {
            Self::Identity => return,
            Self::Event => event::to_core(tree),
            Self::ScalerV1 => autoscaling::to_v2(tree),
        }
        let stored = view.kind.info;
        tree.set_at(
            &["apiVersion"],
            crate::kinds::api_version(stored.group, stored.version),
        );
    }

    /// Turns the stored form into the view's form.
    pub(crate) fn serve(self, view: &View, tree: &mut Value) {
        match self {
            Self::Identity => return,
            Self::Event => event::from_core(tree),
            Self::ScalerV1 => autoscaling::from_v2(tree),
        }
        tree.set_at(&["apiVersion"], &*view.api_version);
    }
}

impl View {
    /// The object as this view serves it: for most views the stored object itself.
    pub(crate) fn present(&self, object: &Arc<Object>) -> Arc<Object> {
        if self.conversion == Conversion::Identity {
            return Arc::clone(object);
        }
        let mut tree = object.tree();
        self.conversion.serve(self, &mut tree);
        let mut json = Vec::with_capacity(object.json.len() + 64);
        cloudeck_schema::write_json(Some(self.ty), &tree, &mut json);
        Arc::new(object.with_json(json.into(), object.revision))
    }

    /// The tree as this view serves it.
    pub(crate) fn tree(&self, object: &Object) -> Value {
        let mut tree = object.tree();
        self.conversion.serve(self, &mut tree);
        tree
    }
}
