//! The scheduler: which node a pod runs on.
//!
//! The core is pure: [`decision::schedule`] takes a pod and the nodes and gives a node, or why none fits. [`cache`] keeps the
//! nodes incrementally from watch events, assumed pods included; [`queue`] holds pods that wait (active, back-off,
//! unschedulable) and wakes them only for events that may help. [`service`] joins them to the API.
//!
//! Absences: no list of all pods on the way of a decision, no polling, no look at anything but pods and nodes. Not in
//! this issue and refused with a reason that says so: inter-pod affinity, topology spread, preemption, volumes, claims.
//!
//! Start reading at [`decision::schedule`].

pub mod cache;
pub mod decision;
pub mod model;
pub mod plugins;
pub mod queue;
mod service;

pub use service::{Scheduler, start};
