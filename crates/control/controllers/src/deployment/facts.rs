//! What the controller knows of a Deployment.

use std::sync::Arc;

use cloudeck_machinery::{LabelSelector, Object, Value, int_or_percent};

use crate::view::Facts;

/// "No limit", where upstream cannot leave a field out.
const UNLIMITED: i64 = i32::MAX as i64;

/// A Deployment, read once per revision.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) object: Arc<Object>,
    /// The whole, for writing it back.
    pub(crate) tree: Value,
    pub(crate) selector: LabelSelector,
    pub(crate) replicas: i64,
    /// Pods beyond `replicas` that may be there during an update.
    pub(crate) max_surge: i64,
    /// Pods of `replicas` that may be unavailable during an update.
    pub(crate) max_unavailable: i64,
    pub(crate) recreates: bool,
    pub(crate) paused: bool,
    pub(crate) deleting: bool,
    pub(crate) min_ready_seconds: i64,
    /// In seconds; `None` when progress is not judged.
    pub(crate) progress_deadline: Option<i64>,
    pub(crate) history_limit: Option<i64>,
}

impl Facts for Deployment {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let tree = object.tree();
        let selector =
            LabelSelector::from_value(tree.at(&["spec", "selector"])).map_err(|error| error.to_string())?;
        let replicas = tree.int_at(&["spec", "replicas"]).unwrap_or(1);
        let recreates = tree.str_at(&["spec", "strategy", "type"]) == Some("Recreate");
        let (max_surge, max_unavailable) = fence_posts(&tree, replicas, recreates);
        let limited = |field| tree.int_at(&["spec", field]).filter(|limit| *limit != UNLIMITED);
        Ok(Self {
            selector,
            replicas,
            max_surge,
            max_unavailable,
            recreates,
            paused: tree.bool_at(&["spec", "paused"]) == Some(true),
            deleting: tree.at(&["metadata", "deletionTimestamp"]).is_some(),
            min_ready_seconds: tree.int_at(&["spec", "minReadySeconds"]).unwrap_or(0),
            progress_deadline: limited("progressDeadlineSeconds"),
            history_limit: limited("revisionHistoryLimit"),
            object,
            tree,
        })
    }

    fn object(&self) -> &Arc<Object> {
        &self.object
    }
}

impl Deployment {
    pub(crate) fn name(&self) -> &str {
        &self.object.key.name
    }

    pub(crate) fn generation(&self) -> i64 {
        self.tree.int_at(&["metadata", "generation"]).unwrap_or(0)
    }

    /// A count of the status, zero when absent.
    pub(crate) fn count(&self, field: &str) -> i64 {
        self.tree.int_at(&["status", field]).unwrap_or(0)
    }

    /// The most pods that may be there.
    pub(crate) fn max_replicas(&self) -> i64 {
        self.replicas + self.max_surge
    }

    pub(crate) fn min_available(&self) -> i64 {
        self.replicas - self.max_unavailable
    }
}

/// Surge rounds up, unavailability down; were both zero nothing could move, so one may be unavailable.
fn fence_posts(tree: &Value, replicas: i64, recreates: bool) -> (i64, i64) {
    if recreates {
        return (0, 0);
    }
    let part = |field, round_up| {
        let value = tree.at(&["spec", "strategy", "rollingUpdate", field]);
        value
            .and_then(|value| int_or_percent::scaled(value, replicas, round_up))
            .unwrap_or(0)
    };
    let surge = part("maxSurge", true);
    let mut unavailable = part("maxUnavailable", false);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    (surge, unavailable.min(replicas))
}
