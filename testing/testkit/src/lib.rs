//! The real server on the memory store, in-process and over TLS, for tests; and images made without a builder.
//!
//! Absences: no mock of anything. Start reading at [`TestServer`].

pub mod image;
mod server;

pub use server::TestServer;
