//! kube-proxy on nftables by netlink: Services become elements of a few maps, never rules of their own.
//!
//! The way of a change: [`follow`] (from the informers) → [`view`] (what of a Service or EndpointSlice matters) → [`model`] (pure: which addresses lead
//! to which endpoints, and what differs from what is installed) → `rules` (the table's fixed shape, and changes as
//! one atomic batch) → the kernel. Each service address has 12, 120 or 1,200 slots in the map of that size; a rule per
//! size draws a random slot and translates. An endpoint change touches only the slots that move.
//!
//! Absences: no rule or chain per Service, no periodic resync, no host program, no knowledge of pods beyond the
//! endpoints' addresses. Refused or left out in this issue: IPv6, topology hints, `loadBalancerSourceRanges` (such
//! addresses are not served at all rather than opened to everybody).
//!
//! Start reading at [`Proxy`], then [`model::Model`].

mod apply;
mod config;
pub mod decode;
mod error;
pub mod follow;
pub mod model;
mod purge;
mod rules;
mod service;
pub mod slots;
pub mod view;

pub use config::ProxyConfig;
pub use error::{ProxyApplyError, ProxyStartError};
pub use model::Change;
pub use purge::purge;
pub use service::Proxy;
