//! The decision: filter, score, choose. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use compact_str::CompactString;

use crate::cache::Cache;
use crate::model::{NodeId, NodeInfo, PodInfo};
use crate::plugins::{ClusterEvent, NodeFilter, Plugin, Unfit};

/// With fewer nodes than this all that fit are scored.
const FEWEST_SCORED: usize = 100;
/// Of many nodes at least this share.
const FEWEST_SCORED_PERCENT: usize = 5;

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Node(CompactString),
    Nowhere(Refusal),
}

/// Why no node fits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    pub nodes: usize,
    /// What stands against every node.
    pub everywhere: Option<&'static str>,
    /// How many nodes gave each reason.
    pub reasons: BTreeMap<Cow<'static, str>, usize>,
    /// The plug-ins that refused a node, a bit for each in their order.
    pub plugins: u32,
    /// Nodes where fewer pods might help.
    pub crowded: Vec<NodeId>,
    /// What became of the attempt to make room.
    pub preemption: String,
}

impl Refusal {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut message = match self.everywhere {
            Some(reason) => format!("0/{} nodes are available: {reason}.", self.nodes),
            None => histogram(self.nodes, &self.reasons),
        };
        if !self.preemption.is_empty() {
            message.push_str(" preemption: ");
            message.push_str(&self.preemption);
        }
        message
    }

    /// Whether the event may let the pod run.
    pub fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>, plugins: &[Box<dyn Plugin>]) -> bool {
        if self.nodes == 0 {
            return matches!(event, ClusterEvent::Node { now: Some(_), .. });
        }
        let mut refusing = plugins
            .iter()
            .enumerate()
            .filter(|(at, _)| self.plugins & (1 << at) != 0);
        refusing.any(|(_, plugin)| plugin.is_turned_by(pod, event))
    }

    fn of(nodes: usize, unfit: Vec<(NodeId, (usize, Unfit))>) -> Self {
        let mut refusal = Self {
            nodes,
            ..Self::default()
        };
        for (node, why) in unfit {
            refusal.note(node, why);
        }
        refusal
    }

    fn note(&mut self, node: NodeId, (plugin, unfit): (usize, Unfit)) {
        self.plugins |= 1 << plugin;
        if !unfit.unresolvable {
            self.crowded.push(node);
        }
        for reason in unfit.reasons {
            *self.reasons.entry(reason).or_insert(0) += 1;
        }
    }
}

/// `0/3 nodes are available: 1 this, 2 that.`
pub(crate) fn histogram(nodes: usize, reasons: &BTreeMap<Cow<'static, str>, usize>) -> String {
    let mut parts: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    parts.sort();
    let mut message = format!("0/{nodes} nodes are available:");
    if !parts.is_empty() {
        message.push(' ');
        message.push_str(&parts.join(", "));
        message.push('.');
    }
    message
}

/// Where the search goes on with the next pod, so that every node has its chance.
#[derive(Debug, Default)]
pub struct Search {
    /// The place of the node to look at first.
    start: usize,
    /// Counts attempts; it decides between nodes that are equally good, so that they take turns and a test can repeat it.
    turn: usize,
}

impl Search {
    pub fn turn(&self) -> usize {
        self.turn
    }
}

/// The plug-ins' filters for one pod, with the plug-ins' places.
pub(crate) struct Filters<'a> {
    pod: &'a PodInfo,
    cache: &'a Cache,
    each: Vec<(usize, Box<dyn NodeFilter + 'a>)>,
}

impl<'a> Filters<'a> {
    pub(crate) fn gather(pod: &'a PodInfo, cache: &'a Cache, plugins: &[Box<dyn Plugin>]) -> Self {
        let each = plugins
            .iter()
            .enumerate()
            .filter_map(|(at, plugin)| Some((at, plugin.filter(pod, cache)?)));
        Self {
            pod,
            cache,
            each: each.collect(),
        }
    }

    /// Whether the pod fits; else which plug-in refused it first, and why. It has to fit together with the pods for
    /// which room is being made on the node, and also without them, for they may yet go elsewhere.
    pub(crate) fn check(&mut self, node: &NodeInfo) -> Result<(), (usize, Unfit)> {
        let cache = self.cache;
        let expected = cache.nominated(&node.name).iter();
        let expected: Vec<_> = expected
            .filter(|other| other.priority >= self.pod.priority && other.uid != self.pod.uid)
            .collect();
        if !expected.is_empty() {
            let mut fuller = node.clone();
            for other in &expected {
                fuller.add_pod(other);
                self.suppose(other, node, 1);
            }
            let outcome = self.check_alone(&fuller);
            for other in &expected {
                self.suppose(other, node, -1);
            }
            outcome?;
        }
        self.check_alone(node)
    }

    fn check_alone(&self, node: &NodeInfo) -> Result<(), (usize, Unfit)> {
        for (at, filter) in &self.each {
            filter.check(node).map_err(|unfit| (*at, unfit))?;
        }
        Ok(())
    }

    pub(crate) fn suppose(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        for (_, filter) in &mut self.each {
            filter.suppose(other, node, by);
        }
    }
}

/// Chooses a node for the pod.
pub fn schedule(pod: &PodInfo, cache: &Cache, plugins: &[Box<dyn Plugin>], search: &mut Search) -> Decision {
    let nodes = cache.nodes().len();
    if nodes == 0 {
        return Decision::Nowhere(Refusal::default());
    }
    search.turn = search.turn.wrapping_add(1);
    let mut filters = Filters::gather(pod, cache, plugins);
    if let Some(node) = cache.node(&pod.nominated_node)
        && filters.check(node).is_ok()
    {
        return Decision::Node(node.name.clone());
    }
    if let Some(decision) = among_named(pod, cache, plugins, &mut filters) {
        return decision;
    }
    let wanted = scored_of(nodes);
    let (mut fitting, mut unfit) = (Vec::with_capacity(wanted), Vec::new());
    for step in 0..nodes {
        let node = cache.nth(search.start + step);
        match filters.check(node) {
            Ok(()) => fitting.push(node),
            Err(why) => unfit.push((node.id, why)),
        }
        if fitting.len() == wanted {
            break;
        }
    }
    search.start = (search.start + fitting.len() + unfit.len()) % nodes;
    match fitting.as_slice() {
        [] => Decision::Nowhere(Refusal::of(nodes, unfit)),
        [one] => Decision::Node(one.name.clone()),
        several => Decision::Node(best(pod, cache, several, plugins, search.turn)),
    }
}

/// The decision on a pod that names its nodes, as those of a DaemonSet do; others are not looked at.
fn among_named(
    pod: &PodInfo,
    cache: &Cache,
    plugins: &[Box<dyn Plugin>],
    filters: &mut Filters<'_>,
) -> Option<Decision> {
    let mut all = plugins.iter().enumerate();
    let (at, names) = all.find_map(|(at, plugin)| Some((at, plugin.narrow(pod)?)))?;
    let nodes = cache.nodes().len();
    let (mut fitting, mut unfit) = (Vec::new(), Vec::new());
    for node in names.iter().filter_map(|name| cache.node(name)) {
        match filters.check(node) {
            Ok(()) => fitting.push(node),
            Err(why) => unfit.push((node.id, why)),
        }
    }
    if !fitting.is_empty() {
        return Some(Decision::Node(best(pod, cache, &fitting, plugins, 0)));
    }
    let others = nodes - unfit.len();
    let mut refusal = Refusal::of(nodes, unfit);
    refusal.plugins |= 1 << at;
    if names.is_empty() {
        refusal.everywhere = Some("pod affinity terms conflict");
    } else if others > 0 {
        let reason = format!("node(s) didn't satisfy plugin(s) [{}]", plugins[at].name());
        refusal.reasons.insert(reason.into(), others);
    }
    Some(Decision::Nowhere(refusal))
}

/// After how many nodes that fit the search ends: the more nodes, the smaller the share of them. Source:
/// `numFeasibleNodesToFind`.
fn scored_of(nodes: usize) -> usize {
    if nodes < FEWEST_SCORED {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(FEWEST_SCORED_PERCENT);
    (nodes * percent / 100).max(FEWEST_SCORED)
}

fn best(
    pod: &PodInfo,
    cache: &Cache,
    nodes: &[&NodeInfo],
    plugins: &[Box<dyn Plugin>],
    turn: usize,
) -> CompactString {
    let mut totals = vec![0_i64; nodes.len()];
    let mut scores = Vec::with_capacity(nodes.len());
    for plugin in plugins {
        let Some(scorer) = plugin.score(pod, cache, nodes) else {
            continue;
        };
        scores.clear();
        scores.extend(nodes.iter().map(|node| scorer.score(node)));
        scorer.normalise(&mut scores, nodes);
        for (total, score) in totals.iter_mut().zip(&scores) {
            *total += score * plugin.weight();
        }
    }
    let highest = totals.iter().copied().max().unwrap_or(0);
    let winners = || (0..nodes.len()).filter(|at| totals[*at] == highest);
    let winner = winners().nth(turn % winners().count());
    nodes[winner.unwrap_or(0)].name.clone()
}

#[cfg(test)]
mod tests;
