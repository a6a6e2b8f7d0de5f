//! Logging set-up and the process's own metrics registry.
//!
//! [`logging`] turns `tracing` events into lines on standard error. [`Registry`] holds counters, gauges and histograms
//! and writes them in Prometheus' text format. There is no global: the composition root makes one registry and passes
//! it down; a component keeps the handles it got at its start.
//!
//! Absences: knows nothing of Kubernetes, opens no socket, exports nothing by itself.
//!
//! Start reading at [`Registry`].

mod chain;
mod exposition;
pub mod logging;
mod registry;

pub use chain::chain;
pub use logging::{InitLoggingError, init_logging};
pub use registry::{Counter, CounterFamily, Gauge, GaugeFamily, Histogram, HistogramFamily, Registry};
