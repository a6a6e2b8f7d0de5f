//! One pod on the node: what is remembered of it, what to do next, what to report, and the task that does it.
//!
//! [`decide()`] and [`status::generate`] are pure; [`worker`] feeds them and begins what they say; [`operations`] are the
//! long steps; [`report`] is how their results come back.

pub mod adopt;
pub mod amounts;
pub mod convert;
pub mod decide;
pub mod memo;
pub mod names;
pub mod operations;
pub mod report;
mod reporter;
pub mod status;
pub mod worker;

pub use cloudeck_telemetry::chain;
pub use decide::{Action, Plan, StopReason, decide};
pub use memo::{ContainerMemo, Millis, Phase, PodMemo};
