//! The Kubernetes API server: one generic engine for every kind, over a datastore with etcd's semantics.
//!
//! [`Server`] answers requests without any protocol. Components inside the process reach it through
//! [`Server::client`], which hands out the server's own objects; everybody else through [`http`].
//!
//! Absences: no rule of a single kind lives here (`cloudeck-strategy` has those), nothing is serialised twice, no read
//! takes a lock that a write holds for longer than an insertion, and there is no way to skip authorisation.
//!
//! Start reading at [`Server`], then `registry` (writes) and `cache` (reads).

mod alloc;
mod bootstrap;
mod cache;
mod clock;
mod components;
mod config;
mod conversion;
mod horizon;
pub mod http;
mod kinds;
mod registry;
mod selection;
mod server;
mod subresource;
mod transport;

pub use cache::feed::{FeedError, UnreadableValue};
pub use clock::Clock;
pub use config::{Cidr, Config, ParseCidrError};
pub use server::{Server, StartError};
