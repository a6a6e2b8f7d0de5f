//! What the edge counts, under upstream's names.

use std::time::Duration;

use cloudeck_telemetry::{CounterFamily, Gauge, HistogramFamily, Registry};

/// Seconds, as upstream's buckets thinned out.
const BOUNDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

pub(crate) struct Metrics {
    requests: CounterFamily,
    durations: HistogramFamily,
    pub(crate) inflight: Gauge,
    pub(crate) watches: Gauge,
}

/// One thing that a gauge counts for as long as it lasts, however it ends.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn in_gauge(gauge: &Gauge) -> Self {
        gauge.add(1);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let inflight = registry.gauge(
            "apiserver_current_inflight_requests",
            "Requests being answered.",
            &[],
        );
        let watches = registry.gauge("apiserver_longrunning_requests", "Open watches.", &[]);
        Self {
            requests: registry.counter(
                "apiserver_request_total",
                "Answered requests.",
                &["method", "code"],
            ),
            durations: registry.histogram(
                "apiserver_request_duration_seconds",
                "Time to the beginning of the answer.",
                &["method"],
                BOUNDS,
            ),
            inflight: inflight.with(&[]),
            watches: watches.with(&[]),
        }
    }

    pub(crate) fn answered(&self, method: &str, code: &str, took: Duration) {
        self.requests.with(&[method, code]).inc();
        self.durations.with(&[method]).observe(took.as_secs_f64());
    }
}
