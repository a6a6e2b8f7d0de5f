//! The controllers of life cycles against the real API server on the memory store, each under upstream's default role.

mod bench;
mod garbage;
mod namespaces;
mod nodes;
mod others;
