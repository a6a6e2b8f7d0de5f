//! The controllers against the real API server on the memory store, each under upstream's default role.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;
mod deployments;
mod disruptions;
mod garbage;
mod namespaces;
mod nodes;
mod quotas;
mod replica_sets;
mod services;
