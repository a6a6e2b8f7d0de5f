//! The runtime on the real kernel. Needs root and busybox-static.
//!
//! Every test has an instance of its own and removes it, whatever happens.

#![allow(unsafe_code, reason = "a test leaks a descriptor on purpose")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod chrooted;
mod escape;
mod exec;
mod lab;
mod life;
mod limits;
mod restart;
mod root;
