//! What else of the cluster bears on placing a pod: labels of namespaces, selectors of Services and workloads, budgets
//! of disruption.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cloudeck_machinery::selector::{LabelSelector, Operator, Requirement};
use cloudeck_machinery::{Object, ObjectKey, Value};
use compact_str::CompactString;

use crate::model::{Labels, PodInfo};
use crate::tally::{Namespaces, PodMatcher};

/// A PodDisruptionBudget as far as preemption heeds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub namespace: CompactString,
    pub selector: LabelSelector,
    /// How many pods may go; zero while nobody has computed it.
    pub allowed: i64,
    /// Pods that were evicted already and are counted in `allowed`.
    pub disrupted: BTreeSet<CompactString>,
}

impl Budget {
    /// Whether the pod counts against it. A selector that restricts nothing selects nothing here, as upstream has it.
    pub fn covers(&self, pod: &PodInfo) -> bool {
        !pod.labels.is_empty()
            && self.namespace == pod.key.namespace
            && !self.selector.is_everything()
            && self.selector.matches(pod.labels.as_ref())
            && !self.disrupted.contains(&pod.key.name)
    }
}

/// Everything but pods and nodes.
#[derive(Debug, Default)]
pub struct Surroundings {
    namespaces: HashMap<CompactString, Labels>,
    services: HashMap<CompactString, BTreeMap<CompactString, LabelSelector>>,
    /// By kind and key.
    workloads: HashMap<(&'static str, ObjectKey), LabelSelector>,
    budgets: BTreeMap<ObjectKey, Budget>,
}

impl Surroundings {
    pub fn set_namespace(&mut self, key: &ObjectKey, object: Option<&Object>) {
        match object {
            Some(object) => self.namespaces.insert(key.name.clone(), object.labels.clone()),
            None => self.namespaces.remove(&key.name),
        };
    }

    pub fn set_service(&mut self, key: &ObjectKey, object: Option<&Object>) {
        let selector = object.and_then(|object| {
            let tree = object.tree();
            let labels = tree.at(&["spec", "selector"]).and_then(Value::as_object);
            // One without a selector selects nothing.
            labels.map(|labels| LabelSelector::from_map(Some(labels)))
        });
        let there = self.services.entry(key.namespace.clone()).or_default();
        match selector {
            Some(selector) => there.insert(key.name.clone(), selector),
            None => there.remove(&key.name),
        };
        if there.is_empty() {
            self.services.remove(&key.namespace);
        }
    }

    /// `kind` is one of `ReplicationController`, `ReplicaSet`, `StatefulSet`.
    pub fn set_workload(&mut self, kind: &'static str, key: &ObjectKey, object: Option<&Object>) {
        let selector = object.and_then(|object| {
            let tree = object.tree();
            let selector = tree.at(&["spec", "selector"]);
            if kind == "ReplicationController" {
                let labels = selector.and_then(Value::as_object);
                return Some(LabelSelector::from_map(labels));
            }
            LabelSelector::from_value(selector).ok()
        });
        match selector {
            Some(selector) => self.workloads.insert((kind, key.clone()), selector),
            None => self.workloads.remove(&(kind, key.clone())),
        };
    }

    pub fn set_budget(&mut self, key: &ObjectKey, object: Option<&Object>) {
        let budget = object.map(|object| {
            let tree = object.tree();
            let disrupted = tree.at(&["status", "disruptedPods"]).and_then(Value::as_object);
            Budget {
                namespace: key.namespace.clone(),
                selector: LabelSelector::from_value(tree.at(&["spec", "selector"]))
                    .unwrap_or_else(|_| LabelSelector::nothing()),
                allowed: tree.int_at(&["status", "disruptionsAllowed"]).unwrap_or(0),
                disrupted: disrupted
                    .into_iter()
                    .flat_map(cloudeck_machinery::value::Map::iter)
                    .map(|(name, _)| name.clone())
                    .collect(),
            }
        });
        match budget {
            Some(budget) => self.budgets.insert(key.clone(), budget),
            None => self.budgets.remove(key),
        };
    }

    pub fn namespace_labels(&self, name: &str) -> Labels {
        self.namespaces.get(name).cloned().unwrap_or_default()
    }

    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.values()
    }

    /// A term's namespaces with those that its selector means now.
    pub fn namespaces_of(&self, listed: &BTreeSet<CompactString>, selector: &LabelSelector) -> Namespaces {
        if selector.is_everything() {
            return Namespaces::All;
        }
        let mut all = listed.clone();
        if !selector.is_nothing() {
            let meant = self
                .namespaces
                .iter()
                .filter(|(_, labels)| selector.matches(labels.as_ref()));
            all.extend(meant.map(|(name, _)| name.clone()));
        }
        Namespaces::Listed(all)
    }

    /// The pods among which a pod without constraints of its own is spread: those that its Services and its workload
    /// select. Source: `plugins/helper/spread.go`.
    pub fn siblings_of(&self, pod: &PodInfo) -> Option<PodMatcher> {
        let mut requirements: Vec<Requirement> = Vec::new();
        let services = self.services.get(&pod.key.namespace).into_iter().flatten();
        for (_, selector) in services.filter(|(_, selector)| selector.matches(pod.labels.as_ref())) {
            requirements.extend(selector.requirements().iter().cloned());
        }
        if let Some((kind, name)) = &pod.owner
            && let Some(kind) = WORKLOADS.iter().find(|other| kind == *other)
            && let Some(own) = self
                .workloads
                .get(&(*kind, ObjectKey::new(&pod.key.namespace, name)))
        {
            requirements.extend(own.requirements().iter().cloned());
        }
        if requirements.is_empty() {
            return None;
        }
        for requirement in &mut requirements {
            // Two ways to say the same.
            if requirement.operator == Operator::Equals {
                requirement.operator = Operator::In;
            }
        }
        requirements.sort_by(|a, b| (&a.key, &a.values).cmp(&(&b.key, &b.values)));
        requirements.dedup();
        Some(PodMatcher {
            namespaces: Namespaces::Listed([pod.key.namespace.clone()].into()),
            selector: LabelSelector::from_requirements(requirements),
        })
    }
}

/// Kinds whose selectors spread their pods.
pub const WORKLOADS: [&str; 3] = ["ReplicationController", "ReplicaSet", "StatefulSet"];
