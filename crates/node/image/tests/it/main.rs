//! The store as its users see it, on real directories, as root. Registries are served by the tests themselves.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod archive;
mod crash;

mod hostile;
mod import;
mod pull;
mod registry;
mod rootfs;
