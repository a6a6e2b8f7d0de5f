//! The decision: filter, score, choose. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{NodeInfo, PodInfo};
use crate::plugins::{ClusterEvent, Plugin};

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Node(String),
    Nowhere(Refusal),
}

/// Why no node fits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    pub nodes: usize,
    /// How many nodes gave each reason.
    pub reasons: BTreeMap<String, usize>,
    /// The events that may change the answer.
    pub hints: BTreeSet<u8>,
}

impl Refusal {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self) -> String {
        let mut parts: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        parts.sort();
        let list = if parts.is_empty() {
            "no nodes are registered".to_owned()
        } else {
            parts.join(", ")
        };
        format!("0/{} nodes are available: {list}.", self.nodes)
    }

    /// Whether the event may let the pod run.
    pub fn may_be_turned_by(&self, event: ClusterEvent) -> bool {
        // Without any node only a node helps.
        if self.nodes == 0 {
            event == ClusterEvent::NodeAdded
        } else {
            self.hints.contains(&(event as u8))
        }
    }
}

/// Chooses a node for the pod. Of equally good ones the first of `nodes` in the order rotated by `turn` wins, so that
/// ties spread over the nodes and a test can repeat them.
pub fn schedule<'a>(
    pod: &PodInfo,
    nodes: impl Iterator<Item = &'a NodeInfo>,
    plugins: &[Box<dyn Plugin>],
    turn: usize,
) -> Decision {
    let mut refusal = Refusal::default();
    let mut fitting = Vec::new();
    for node in nodes.filter(|node| node.known) {
        refusal.nodes += 1;
        match plugins
            .iter()
            .find_map(|plugin| plugin.filter(pod, node).err().map(|unfit| (plugin, unfit)))
        {
            None => fitting.push(node),
            Some((plugin, unfit)) => {
                for reason in unfit.reasons {
                    *refusal.reasons.entry(reason).or_insert(0) += 1;
                }
                refusal
                    .hints
                    .extend(plugin.hints().iter().map(|hint| *hint as u8));
                refusal.hints.insert(ClusterEvent::NodeAdded as u8);
            }
        }
    }
    match fitting.as_slice() {
        [] => Decision::Nowhere(refusal),
        [one] => Decision::Node(one.name.clone()),
        several => Decision::Node(best(pod, several, plugins, turn).to_owned()),
    }
}

fn best<'a>(pod: &PodInfo, nodes: &[&'a NodeInfo], plugins: &[Box<dyn Plugin>], turn: usize) -> &'a str {
    let mut totals = vec![0_i64; nodes.len()];
    for plugin in plugins {
        let scores: Vec<i64> = nodes.iter().filter_map(|node| plugin.score(pod, node)).collect();
        if scores.len() != nodes.len() {
            continue;
        }
        let highest = scores.iter().copied().max().unwrap_or(0);
        for (total, score) in totals.iter_mut().zip(scores) {
            let score = if plugin.normalised() && highest > 0 {
                score * 100 / highest
            } else {
                score
            };
            *total += score * plugin.weight();
        }
    }
    let start = turn % nodes.len();
    let order = (0..nodes.len()).map(|step| (start + step) % nodes.len());
    let mut winner = start;
    for at in order {
        if totals[at] > totals[winner] {
            winner = at;
        }
    }
    &nodes[winner].name
}

#[cfg(test)]
mod tests;
