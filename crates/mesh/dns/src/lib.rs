//! Cluster DNS: Services and pods by the Kubernetes DNS specification 1.1, everything else from the host's servers.
//!
//! [`zone::Zone`] answers purely from what [`Dns::follow`] told it of Services and EndpointSlices; `server` speaks UDP
//! and TCP; `forward` passes on what the cluster does not own, byte for byte. Only clients within the configured ranges
//! are answered: the node's address is no open resolver. [`announce`] makes the server the endpoint of the Service
//! `kube-dns`.
//!
//! Absences: no cache (the host's servers have one), no zone transfers, no DNSSEC of its own, no IPv6 addresses.
//! Start reading at [`zone::Zone::look_up`].

pub mod announce;
mod config;
mod follow;
mod forward;
mod reply;
mod server;
mod service;
pub mod zone;

pub use config::{DnsConfig, Upstream};
pub use follow::{endpoint_slices, services};
pub use service::{Dns, DnsStartError};
