//! The plug-in points and the built-in plug-ins.
//!
//! A plug-in filters nodes, scores them, or both. Names and reasons are upstream's; scores are from 0 to 100 and
//! weighted as upstream's default profile weighs them.

mod affinity;
mod fit;
mod node;
mod taints;

use std::fmt;

use crate::model::{NodeInfo, PodInfo};

/// Why a node does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// As events count them: `Insufficient cpu`.
    pub reasons: Vec<String>,
    /// Removing pods from the node would not help.
    pub unresolvable: bool,
}

impl Unfit {
    fn resolvable(reason: impl Into<String>) -> Self {
        Self {
            reasons: vec![reason.into()],
            unresolvable: false,
        }
    }

    fn unresolvable(reason: impl Into<String>) -> Self {
        Self {
            reasons: vec![reason.into()],
            unresolvable: true,
        }
    }
}

/// What changed in the cluster, as far as it may let a waiting pod run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterEvent {
    NodeAdded,
    NodeAllocatableRaised,
    NodeLabelsChanged,
    NodeTaintsChanged,
    /// A pod that held resources of a node is gone.
    AssignedPodGone,
}

/// One plug-in.
pub trait Plugin: Send + Sync + fmt::Debug {
    fn name(&self) -> &'static str;

    /// Whether the pod may run on the node.
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Unfit> {
        let _ = (pod, node);
        Ok(())
    }

    /// How good the node is for the pod, from 0 to 100; `None` when the plug-in has no opinion on this pod.
    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        let _ = (pod, node);
        None
    }

    /// Whether scores are relative to the best one and are to be stretched to 100.
    fn normalised(&self) -> bool {
        false
    }

    fn weight(&self) -> i64 {
        1
    }

    /// The events that may turn this plug-in's refusal.
    fn hints(&self) -> &'static [ClusterEvent];
}

/// Upstream's default profile, as far as it is here, in its order.
pub fn default_plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(node::NodeUnschedulable),
        Box::new(node::NodeName),
        Box::new(node::Supported),
        Box::new(taints::TaintToleration),
        Box::new(affinity::NodeAffinityPlugin),
        Box::new(node::NodePorts),
        Box::new(fit::NodeResourcesFit),
        Box::new(fit::BalancedAllocation),
    ]
}
