//! Netlink by hand: links, addresses, routes, nftables and connection tracking without any program of the host, plus
//! network namespaces and name resolution without NSS.
//!
//! - [`netlink`]: sockets, message building and parsing. A request is answered inside `sendmsg`, so the blocking calls
//!   here cost microseconds; what takes a routing lock for longer (deleting links) belongs into `spawn_blocking`.
//! - [`route`]: links, addresses, routes, neighbours.
//! - [`nftables`]: atomic batches of tables, chains, sets, elements and rules.
//! - [`conntrack`]: deletion of tracked connections by filter.
//! - [`resolve`]: host names to addresses.
//! - [`namespace`]: running something, or opening a socket, inside another network namespace.
//!
//! Knows nothing of Kubernetes, of pods or of services, spawns no tasks, and keeps no state beyond its sockets.
//! IPv4 only so far: dual stack is a later issue and its callers answer with a clear error.
//! Start reading at [`netlink::NetlinkSocket`].

pub mod cidr;
pub mod conntrack;
pub mod legacy;
mod module;
pub mod namespace;
pub mod netlink;
pub mod nftables;
pub mod resolve;
pub mod route;
pub mod tcp;

pub use cidr::{Ipv4Cidr, ParseCidrError};
pub use namespace::{NamespaceError, NetNamespace};
pub use netlink::NetlinkError;
pub use route::RouteSocket;
