//! The plug-in points and the built-in plug-ins.
//!
//! A plug-in filters nodes, scores them, or both. What it needs to know of the cluster it gathers once per pod; a plug-in
//! that has nothing to say on a pod costs nothing on its nodes. Names and reasons are upstream's; scores are from 0 to
//! 100 and weighted as upstream's default profile weighs them.

mod affinity;
mod fit;
mod images;
mod interpod;
mod node;
mod spread;
mod taints;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo};

/// Why a node does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// As events count them: `Insufficient cpu`.
    pub reasons: Vec<Cow<'static, str>>,
    /// Removing pods from the node would not help.
    pub unresolvable: bool,
}

impl Unfit {
    fn resolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reasons: vec![reason.into()],
            unresolvable: false,
        }
    }

    fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reasons: vec![reason.into()],
            unresolvable: true,
        }
    }
}

/// What changed in the cluster, as far as it may let a waiting pod run. A side is absent when the thing is new or gone.
#[derive(Debug, Clone, Copy)]
pub enum ClusterEvent<'a> {
    Node {
        before: Option<&'a NodeInfo>,
        now: Option<&'a NodeInfo>,
    },
    /// A pod that counts on a node.
    Pod {
        before: Option<&'a PodInfo>,
        now: Option<&'a PodInfo>,
    },
}

/// One plug-in.
pub trait Plugin: Send + Sync + fmt::Debug {
    fn name(&self) -> &'static str;

    /// The only nodes that come into question, by name, where the pod names them.
    fn narrow<'a>(&self, pod: &'a PodInfo) -> Option<BTreeSet<&'a str>> {
        let _ = pod;
        None
    }

    /// Gets ready to filter nodes for the pod; `None` when every node will do.
    fn filter<'a>(&self, pod: &'a PodInfo, cache: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        let _ = (pod, cache);
        None
    }

    /// Gets ready to score the nodes that fit; `None` when they are all alike.
    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        cache: &'a Cache,
        fitting: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScore + 'a>> {
        let _ = (pod, cache, fitting);
        None
    }

    fn weight(&self) -> i64 {
        1
    }

    /// Whether the event may turn this plug-in's refusal of the pod.
    fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>) -> bool {
        let _ = (pod, event);
        false
    }
}

/// A plug-in's filter for one pod.
pub trait NodeFilter {
    /// Whether the pod may run on the node.
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit>;

    /// Supposes that another pod came to the node (`by` is 1) or left it (-1).
    fn suppose(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        let _ = (other, node, by);
    }
}

/// A plug-in's scores for one pod.
pub trait NodeScore {
    /// How good the node is for the pod.
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes, in their order, to the range from 0 to 100.
    fn normalise(&self, scores: &mut [i64], nodes: &[&NodeInfo]) {
        let _ = (scores, nodes);
    }
}

/// Stretches scores so that the highest becomes 100.
fn stretch(scores: &mut [i64]) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    if highest > 0 {
        for score in scores {
            *score = *score * 100 / highest;
        }
    }
}

/// Upstream's default profile in its order.
pub fn default_plugins() -> Vec<Box<dyn Plugin>> {
    vec![
        Box::new(node::NodeName),
        Box::new(node::NodeUnschedulable),
        Box::new(node::Supported),
        Box::new(taints::TaintToleration),
        Box::new(affinity::NodeAffinityPlugin),
        Box::new(node::NodePorts),
        Box::new(fit::NodeResourcesFit),
        Box::new(spread::PodTopologySpread),
        Box::new(interpod::InterPodAffinity),
        Box::new(fit::BalancedAllocation),
        Box::new(images::ImageLocality),
    ]
}
