//! Amounts of resources: what pods ask for and nodes have.

use std::collections::BTreeMap;

use cloudeck_machinery::quantity::Quantity;
use compact_str::CompactString;
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Amounts: CPU in millicores, the others in units (bytes, pieces). The three that every pod may ask for are held apart
/// from the others, because each attempt compares them on hundreds of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Huge pages and extended resources, by name.
    pub others: BTreeMap<CompactString, i64>,
}

impl Resources {
    pub(super) fn read(list: &ApiAmounts) -> Self {
        let mut found = Self::default();
        for (name, quantity) in list {
            let Ok(quantity) = quantity.0.parse::<Quantity>() else {
                continue;
            };
            match name.as_str() {
                "cpu" => found.milli_cpu = quantity.milli_value(),
                "memory" => found.memory = quantity.value(),
                "ephemeral-storage" => found.ephemeral_storage = quantity.value(),
                // The number of pods is not asked for; nodes hold it apart.
                "pods" => {}
                _ => {
                    found.others.insert(name.as_str().into(), quantity.value());
                }
            }
        }
        found
    }

    pub fn add(&mut self, more: &Self) {
        self.combine(more, i64::saturating_add);
    }

    pub fn subtract(&mut self, less: &Self) {
        self.combine(less, i64::saturating_sub);
    }

    fn raise(&mut self, to: &Self) {
        self.combine(to, Ord::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let entry = self.others.entry(name.clone()).or_insert(0);
            *entry = with(*entry, *amount);
        }
    }

    /// The amount of one of [`Resources::others`].
    pub fn other(&self, name: &str) -> i64 {
        self.others.get(name).copied().unwrap_or(0)
    }

    /// Whether any amount is higher here than there.
    pub fn exceeds_anywhere(&self, there: &Self) -> bool {
        self.milli_cpu > there.milli_cpu
            || self.memory > there.memory
            || self.ephemeral_storage > there.ephemeral_storage
            || self
                .others
                .iter()
                .any(|(name, amount)| *amount > there.other(name))
    }
}

pub(super) type ApiAmounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// The sum of the containers, or the largest init container where that is more; restartable init containers count with
/// everything that starts after them; what the pod as a whole asks for goes before both; overhead on top. Source:
/// `component-helpers/resource`.
pub(super) fn requests(spec: &PodSpec) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&of_container(container));
    }
    let mut restartable = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        let mut moment = restartable.clone();
        moment.add(&own);
        peak.raise(&moment);
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&own);
            restartable.add(&own);
        }
    }
    total.raise(&peak);
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        ask_as_a_whole(&mut total, whole);
    }
    if let Some(overhead) = &spec.overhead {
        total.add(&Resources::read(overhead));
    }
    total
}

/// A pod as a whole may ask for CPU, memory and huge pages; that replaces what its containers ask for.
fn ask_as_a_whole(total: &mut Resources, whole: &ApiAmounts) {
    let asked = Resources::read(whole);
    if whole.contains_key("cpu") {
        total.milli_cpu = asked.milli_cpu;
    }
    if whole.contains_key("memory") {
        total.memory = asked.memory;
    }
    total.others.extend(
        asked
            .others
            .into_iter()
            .filter(|(name, _)| name.starts_with("hugepages-")),
    );
}

fn of_container(container: &Container) -> Resources {
    let Some(resources) = &container.resources else {
        return Resources::default();
    };
    // A limit is the request where there is none.
    match (&resources.limits, &resources.requests) {
        (None, None) => Resources::default(),
        (Some(only), None) | (None, Some(only)) => Resources::read(only),
        (Some(limits), Some(requests)) => {
            let mut both = limits.clone();
            both.extend(requests.clone());
            Resources::read(&both)
        }
    }
}
