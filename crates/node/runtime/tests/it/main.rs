//! The runtime on the real kernel. Needs root and busybox-static.
//!
//! Every test has an instance of its own and removes it, whatever happens.

mod escape;
mod exec;
mod lab;
mod life;
mod limits;
mod restart;
mod root;
