//! Root tests of the service proxy: real connections in network namespaces that the tests make themselves.
#![allow(
    clippy::unwrap_used,
    reason = "a test's functions outside of #[test] count as product code for the lint"
)]

mod api;
mod rig;
mod services;
