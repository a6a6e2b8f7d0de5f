//! The agent on the real runtime, image store, pod network and API server. Root; each test has a node of its own.
#![allow(clippy::unwrap_used, reason = "a failure in a helper is a failed test")]

mod adoption;
mod lab;
mod life;
mod probes;
mod volumes;
