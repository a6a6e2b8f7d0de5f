//! The server seen from outside: over TLS, by a foreign client.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod edge;
mod foreign;
mod hostile;
mod nodes;
mod wire;
