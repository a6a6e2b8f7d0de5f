//! The server seen from outside: over TLS, by a foreign client.

mod edge;
mod foreign;
mod nodes;
mod wire;
