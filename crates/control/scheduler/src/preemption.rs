//! Making room: which pods of lower priority have to go so that a pod fits. Pure.
//!
//! Source: `plugins/defaultpreemption` and `framework/preemption`.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;

use crate::cache::Cache;
use crate::decision::{Filters, Refusal, histogram};
use crate::model::{NodeInfo, PodInfo};
use crate::plugins::Plugin;
use crate::surroundings::Budget;

/// Of many nodes this share is tried, and at least so many.
const TRIED_PERCENT: usize = 10;
const FEWEST_TRIED: usize = 100;

const NO_VICTIMS: &str = "No preemption victims found for incoming pod";
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// What came of the attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Preemption {
    /// These pods go, most important first, and the node is kept for the pod.
    Room {
        node: CompactString,
        victims: Vec<Arc<PodInfo>>,
    },
    /// Not now; a node that is kept for the pod stays so.
    NotEligible(&'static str),
    /// It would not help.
    Vain(String),
}

impl Preemption {
    /// As the event tells it.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::Room { node, victims } => format!(
                "found a potential placement for pod on node {node}, preempting {} victims",
                victims.len()
            )
            .into(),
            Self::NotEligible(why) => (*why).into(),
            Self::Vain(why) => why.into(),
        }
    }
}

/// Looks for pods that have to go. `turn` decides where the search begins.
pub fn preempt(
    pod: &PodInfo,
    cache: &Cache,
    plugins: &[Box<dyn Plugin>],
    refusal: &Refusal,
    turn: usize,
) -> Preemption {
    if let Some(why) = ineligible(pod, cache, refusal) {
        return Preemption::NotEligible(why);
    }
    let mut reasons = BTreeMap::new();
    let candidates = if cache.has_pods_below(pod.priority) {
        candidates(pod, cache, plugins, refusal, turn, &mut reasons)
    } else {
        if !refusal.crowded.is_empty() {
            reasons.insert(NO_VICTIMS.into(), refusal.crowded.len());
        }
        Vec::new()
    };
    if let Some(best) = candidates.into_iter().min_by_key(Candidate::cost) {
        return Preemption::Room {
            node: best.node,
            victims: best.victims,
        };
    }
    let told: usize = reasons.values().sum();
    if told < refusal.nodes {
        *reasons.entry(NOT_HELPFUL.into()).or_insert(0) += refusal.nodes - told;
    }
    Preemption::Vain(histogram(refusal.nodes, &reasons))
}

/// Why the pod may not make others go: its policy, or that they are going already.
fn ineligible(pod: &PodInfo, cache: &Cache, refusal: &Refusal) -> Option<&'static str> {
    if pod.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let kept = cache.node(&pod.nominated_node)?;
    let is_going = |other: &Arc<PodInfo>| other.priority < pod.priority && other.deleting && other.preempted;
    (refusal.crowded.contains(&kept.id) && kept.pods.iter().any(is_going))
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// A node and who would have to go there.
struct Candidate {
    node: CompactString,
    victims: Vec<Arc<PodInfo>>,
    violations: usize,
}

impl Candidate {
    /// The least is the best: few violated budgets, then unimportant victims, then few, then young ones.
    fn cost(&self) -> (usize, i32, i64, usize, Reverse<i64>) {
        let highest = self.victims.first().map_or(i32::MIN, |victim| victim.priority);
        // Counted from the lowest priority there is, so that more victims are always worse.
        let sum = self
            .victims
            .iter()
            .map(|victim| i64::from(victim.priority) + (1 << 31));
        let important = self.victims.iter().filter(|victim| victim.priority == highest);
        let oldest = important.map(|victim| started(victim)).min().unwrap_or(i64::MAX);
        (
            self.violations,
            highest,
            sum.sum(),
            self.victims.len(),
            Reverse(oldest),
        )
    }
}

/// A pod that has not started is as young as can be.
fn started(pod: &PodInfo) -> i64 {
    pod.started.unwrap_or(i64::MAX)
}

fn candidates(
    pod: &PodInfo,
    cache: &Cache,
    plugins: &[Box<dyn Plugin>],
    refusal: &Refusal,
    turn: usize,
    reasons: &mut BTreeMap<Cow<'static, str>, usize>,
) -> Vec<Candidate> {
    let crowded = refusal.crowded.as_slice();
    let wanted = (crowded.len() * TRIED_PERCENT / 100).max(FEWEST_TRIED);
    let budgets: Vec<&Budget> = cache.surroundings.budgets().collect();
    let mut filters = Filters::gather(pod, cache, plugins);
    let mut found: Vec<Candidate> = Vec::new();
    for step in 0..crowded.len() {
        let node = cache.at(crowded[(turn + step) % crowded.len()]);
        match victims_on(node, pod, &mut filters, &budgets) {
            Ok(candidate) => found.push(candidate),
            Err(why) => {
                for reason in why {
                    *reasons.entry(reason).or_insert(0) += 1;
                }
            }
        }
        if found.len() >= wanted && found.iter().any(|candidate| candidate.violations == 0) {
            break;
        }
    }
    found
}

/// The fewest and least important pods of the node without which the pod fits; the reasons why it does not even
/// without all of them.
fn victims_on(
    node: &NodeInfo,
    pod: &PodInfo,
    filters: &mut Filters<'_>,
    budgets: &[&Budget],
) -> Result<Candidate, Vec<Cow<'static, str>>> {
    let lower = node.pods.iter().filter(|other| other.priority < pod.priority);
    let mut lower: Vec<Arc<PodInfo>> = lower.cloned().collect();
    if lower.is_empty() {
        return Err(vec![NO_VICTIMS.into()]);
    }
    lower.sort_by_key(|victim| (Reverse(victim.priority), started(victim)));
    let mut trial = Trial {
        node: node.clone(),
        filters,
        gone: Vec::new(),
    };
    for victim in &lower {
        trial.take(victim);
    }
    let outcome = trial.filters.check(&trial.node);
    let candidate = match outcome {
        Err((_, unfit)) => Err(unfit.reasons),
        Ok(()) => Ok(trial.spare(lower, budgets)),
    };
    trial.end(node);
    candidate
}

/// A node from which pods are taken on trial.
struct Trial<'t, 'a> {
    node: NodeInfo,
    filters: &'t mut Filters<'a>,
    gone: Vec<Arc<PodInfo>>,
}

impl Trial<'_, '_> {
    fn take(&mut self, pod: &Arc<PodInfo>) {
        self.node.remove_pod(&pod.uid);
        self.filters.suppose(pod, &self.node, -1);
        self.gone.push(Arc::clone(pod));
    }

    /// Puts the pod back if the other one fits all the same.
    fn spares(&mut self, pod: &Arc<PodInfo>) -> bool {
        self.node.add_pod(pod);
        self.filters.suppose(pod, &self.node, 1);
        self.gone.retain(|other| other.uid != pod.uid);
        let fits = self.filters.check(&self.node).is_ok();
        if !fits {
            self.take(pod);
        }
        fits
    }

    /// Spares as many as it can, the most important first, and those with a budget before all others.
    fn spare(&mut self, pods: Vec<Arc<PodInfo>>, budgets: &[&Budget]) -> Candidate {
        let (violating, others) = by_budget(pods, budgets);
        let mut violations = 0;
        for pod in &violating {
            if !self.spares(pod) {
                violations += 1;
            }
        }
        for pod in &others {
            self.spares(pod);
        }
        let mut victims = self.gone.clone();
        victims.sort_by_key(|victim| (Reverse(victim.priority), started(victim)));
        Candidate {
            node: self.node.name.clone(),
            victims,
            violations,
        }
    }

    /// Leaves the filters as they were.
    fn end(self, node: &NodeInfo) {
        for pod in &self.gone {
            self.filters.suppose(pod, node, 1);
        }
    }
}

/// Parts the pods, in their order, by whether their going violates a budget, each going counted.
fn by_budget(pods: Vec<Arc<PodInfo>>, budgets: &[&Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut left: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.into_iter().partition(|pod| {
        for (budget, left) in budgets.iter().zip(&mut left) {
            if budget.covers(pod) {
                *left -= 1;
                if *left < 0 {
                    return true;
                }
            }
        }
        false
    })
}

#[cfg(test)]
mod tests;
