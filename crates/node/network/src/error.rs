//! What can go wrong.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use cloudeck_net::{Ipv4Cidr, NamespaceError, NetlinkError};

use crate::ipam::AllocateError;

/// Why the pod network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetworkStartError {
    /// The instance name cannot be part of names on the host.
    #[error("instance name {0:?} must be 1 to 40 lower-case letters, digits and dashes")]
    InstanceName(String),
    /// Two ranges have addresses in common.
    #[error("address ranges {0} and {1} overlap")]
    OverlappingRanges(Ipv4Cidr, Ipv4Cidr),
    /// The node's range is not a part of the cluster's.
    #[error("pod range {pod} does not lie within the cluster's pod range {cluster}")]
    PodRangeOutside {
        /// The node's.
        pod: Ipv4Cidr,
        /// The cluster's.
        cluster: Ipv4Cidr,
    },
    /// Somebody else has a route to the range.
    #[error("address range {0} is already routed by somebody else on this host")]
    RangeTaken(Ipv4Cidr),
    /// The kernel refused.
    #[error("{action}")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: NetlinkError,
    },
    /// A namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A file could not be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Why a pod could not be connected or disconnected.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Not built yet.
    #[error(
        "host port {0} is not supported: hostPort is not implemented in this version; use a NodePort Service"
    )]
    HostPort(u16),
    /// The uid cannot be noted on a link.
    #[error("pod uid {0:?} is empty, too long, or has a colon")]
    PodUid(String),
    /// No address.
    #[error(transparent)]
    Allocate(#[from] AllocateError),
    /// The same pod is being connected at this moment.
    #[error("pod {0} is already being connected")]
    InProgress(String),
    /// The pod's namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel refused.
    #[error("{action} for pod {pod_uid}")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// For which pod.
        pod_uid: String,
        /// Why not.
        source: NetlinkError,
    },
    /// The device that was made is not there.
    #[error("network device of pod {0} vanished while it was set up")]
    Vanished(String),
    /// The address that the pod wants is not one of this node.
    #[error("requested address {address} does not lie within the node's pod range {range}")]
    Outside {
        /// The address.
        address: Ipv4Addr,
        /// The range.
        range: Ipv4Cidr,
    },
}

/// Why traces on the host could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The kernel refused.
    #[error("{action}")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: NetlinkError,
    },
    /// A namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A file could not be read, written or removed.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}
