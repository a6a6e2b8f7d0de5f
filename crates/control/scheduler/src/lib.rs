//! The scheduler: which node a pod runs on.
//!
//! The core is pure: [`decision::schedule`] takes a pod and the [`cache`] and gives a node, or why none fits;
//! [`preemption::preempt`] says whose end would make room. [`cache`] keeps the nodes incrementally from watch events,
//! assumed pods included, and [`tally`] the counts that affinity and spread ask for; [`surroundings`] has the rest of the
//! cluster that bears on places. [`queue`] holds pods that wait (active, back-off, unschedulable) and wakes them only for
//! events that their refusing plug-ins take for help. `service` joins them to the API.
//!
//! Absences: no list of all pods on the way of a decision, no polling, one profile. Refused with a reason that says so:
//! claims for volumes and devices. Not here: extenders, pod groups, resizing in place.
//!
//! Start reading at [`decision::schedule`].

pub mod cache;
pub mod decision;
pub mod model;
pub mod plugins;
pub mod preemption;
pub mod queue;
mod service;
pub mod surroundings;
pub mod tally;

pub use service::{Scheduler, start};
