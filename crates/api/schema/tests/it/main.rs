//! Against upstream's golden vectors, read from the Go module `k8s.io/api` when the test runs; and properties over
//! random objects of every kind.

#![allow(clippy::unwrap_used, reason = "tests")]

mod golden;
mod properties;
