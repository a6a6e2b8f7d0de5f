//! Counters, gauges and histograms. An update is one or two atomic operations; a lock is taken only to make a series.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// All metrics of a process. Cheap to clone; clones are the same registry.
///
/// Asking for a name twice gives the same family.
#[derive(Clone, Default)]
pub struct Registry {
    families: Arc<Mutex<BTreeMap<&'static str, AnyFamily>>>,
}

#[derive(Clone)]
pub(crate) enum AnyFamily {
    Counter(CounterFamily),
    Gauge(GaugeFamily),
    Histogram(HistogramFamily),
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// A family of counters.
    ///
    /// # Panics
    /// If `name` is taken by a metric of another type: that is a mistake in the program.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> CounterFamily {
        let fresh = || AnyFamily::Counter(Family::new(help, labels, &[]));
        match self.family(name, fresh) {
            AnyFamily::Counter(family) => family,
            _ => panic!("metric {name} is not a counter"),
        }
    }

    /// A family of gauges.
    ///
    /// # Panics
    /// If `name` is taken by a metric of another type.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> GaugeFamily {
        let fresh = || AnyFamily::Gauge(Family::new(help, labels, &[]));
        match self.family(name, fresh) {
            AnyFamily::Gauge(family) => family,
            _ => panic!("metric {name} is not a gauge"),
        }
    }

    /// A family of histograms with these upper bounds, ascending.
    ///
    /// # Panics
    /// If `name` is taken by a metric of another type.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> HistogramFamily {
        let fresh = || AnyFamily::Histogram(Family::new(help, labels, bounds));
        match self.family(name, fresh) {
            AnyFamily::Histogram(family) => family,
            _ => panic!("metric {name} is not a histogram"),
        }
    }

    fn family(&self, name: &'static str, fresh: impl FnOnce() -> AnyFamily) -> AnyFamily {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.entry(name).or_insert_with(fresh).clone()
    }

    pub(crate) fn snapshot(&self) -> Vec<(&'static str, AnyFamily)> {
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families
            .iter()
            .map(|(name, family)| (*name, family.clone()))
            .collect()
    }
}

/// Series of one metric, told apart by label values.
pub type CounterFamily = Family<Counter>;
/// Series of one metric, told apart by label values.
pub type GaugeFamily = Family<Gauge>;
/// Series of one metric, told apart by label values.
pub type HistogramFamily = Family<Histogram>;

/// Series of one metric, told apart by label values. Cheap to clone.
pub struct Family<S> {
    inner: Arc<FamilyInner<S>>,
}

impl<S> Clone for Family<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct FamilyInner<S> {
    help: &'static str,
    labels: &'static [&'static str],
    bounds: &'static [f64],
    series: Mutex<BTreeMap<Vec<String>, S>>,
}

/// What a family is made of.
pub trait Series: Clone {
    /// A series at zero.
    fn zero(bounds: &'static [f64]) -> Self;
}

impl<S: Series> Family<S> {
    fn new(help: &'static str, labels: &'static [&'static str], bounds: &'static [f64]) -> Self {
        Self {
            inner: Arc::new(FamilyInner {
                help,
                labels,
                bounds,
                series: Mutex::default(),
            }),
        }
    }

    /// The series with these label values, in the order of the label names. Keep it where updates are frequent.
    ///
    /// # Panics
    /// If there are more or fewer values than names.
    pub fn with(&self, values: &[&str]) -> S {
        assert_eq!(values.len(), self.inner.labels.len(), "one value per label");
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let mut series = self.inner.series.lock().unwrap_or_else(PoisonError::into_inner);
        series
            .entry(key)
            .or_insert_with(|| S::zero(self.inner.bounds))
            .clone()
    }

    pub(crate) fn help(&self) -> &'static str {
        self.inner.help
    }

    pub(crate) fn labels(&self) -> &'static [&'static str] {
        self.inner.labels
    }

    pub(crate) fn series(&self) -> Vec<(Vec<String>, S)> {
        let series = self.inner.series.lock().unwrap_or_else(PoisonError::into_inner);
        series
            .iter()
            .map(|(values, series)| (values.clone(), series.clone()))
            .collect()
    }
}

/// Only rises.
#[derive(Clone)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Series for Counter {
    fn zero(_bounds: &'static [f64]) -> Self {
        Self(Arc::default())
    }
}

/// Rises and falls.
#[derive(Clone)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds, or takes away.
    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Ordering::Relaxed);
    }

    /// The value.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Series for Gauge {
    fn zero(_bounds: &'static [f64]) -> Self {
        Self(Arc::default())
    }
}

/// Counts observations by size.
#[derive(Clone)]
pub struct Histogram(Arc<HistogramInner>);

struct HistogramInner {
    bounds: &'static [f64],
    /// One per bound, then the rest. Not cumulative.
    buckets: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts `value`.
    pub fn observe(&self, value: f64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        self.0
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .expect("the update never declines");
    }

    /// Counts a duration in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// Upper bounds with the count of observations at or below each; the total; the sum.
    pub(crate) fn read(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut total = 0;
        let mut cumulative = Vec::with_capacity(self.0.bounds.len());
        for (bound, bucket) in self.0.bounds.iter().zip(&self.0.buckets) {
            total += bucket.load(Ordering::Relaxed);
            cumulative.push((*bound, total));
        }
        total += self.0.buckets[self.0.bounds.len()].load(Ordering::Relaxed);
        (
            cumulative,
            total,
            f64::from_bits(self.0.sum.load(Ordering::Relaxed)),
        )
    }
}

impl Series for Histogram {
    fn zero(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(HistogramInner {
            bounds,
            buckets,
            sum: AtomicU64::new(0),
        }))
    }
}
