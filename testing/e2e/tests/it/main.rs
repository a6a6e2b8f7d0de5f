//! The acceptance, as tests: each starts the real binary on a machine of its own and uses it through real clients.
//!
//! Needs root, busybox-static and the binaries that `cargo xtask test e2e` builds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod boot;
mod charts;
mod control_plane;
mod foreign;
mod kubectl;
mod manifests;
mod pods;
mod purge;
mod recovery;
mod refusals;
mod release;
mod scheduling;
mod services;
mod serving;
