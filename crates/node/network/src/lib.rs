//! Pod network: a routed veth pair per pod, addresses, masquerade, and the traces of all that on the host.
//!
//! Every pod has a /32 and a link-local gateway whose neighbour entry is permanent; there is no bridge, hence no
//! hairpin mode and no `br_netfilter`. The kernel is the record: a pod's link carries the pod's uid and address in its
//! alias, set last, so a restarted daemon adopts exactly what was finished and removes what was not. Only what cannot
//! be read back (changed sysctls, the allocation cursor) is kept in files.
//!
//! Absences: knows nothing of Services (that is `cloudeck-proxy`), of pod objects, or of other nodes; runs no program of
//! the host; makes no network namespace (the runtime does) and leaves DNS to others. Not in this issue, and refused
//! with a clear error: host ports, IPv6.
//!
//! Start reading at [`PodNetwork`], then [`ipam::Pool`].

mod attach;
mod config;
pub mod doctor;
mod error;
mod host;
pub mod ipam;
mod name;
mod network;
mod purge;
mod record;

pub use config::{AttachRequest, HostPort, NetworkConfig, PodAddress, PodNetworkEntry};
pub use error::{AttachError, NetworkStartError, PurgeError};
pub use host::{NodeAddress, ensure_node_address};
pub use name::InstanceNames;
pub use network::PodNetwork;
pub use purge::purge;
