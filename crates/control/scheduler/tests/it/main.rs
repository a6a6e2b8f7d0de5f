//! The scheduler against the real API server on the memory store, under upstream's default role.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;
mod places;
mod preemption;
