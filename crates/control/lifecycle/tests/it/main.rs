//! The controllers of life cycles against the real API server on the memory store, each under upstream's default role.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod bench;
mod garbage;
mod namespaces;
mod nodes;
mod others;
