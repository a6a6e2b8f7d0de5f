//! What the pod network is told, and what it tells.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloudeck_net::{Ipv4Cidr, NetNamespace};

/// Settings of the pod network of one node.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Every host-global name derives from it; lower-case letters, digits and dashes, at most 40.
    pub instance: String,
    /// The range that this node's pods have their addresses from.
    pub pod_cidr: Ipv4Cidr,
    /// The range that all nodes' pods have their addresses from; traffic within it is never masqueraded.
    pub cluster_cidr: Ipv4Cidr,
    /// The range of the Services' addresses.
    pub service_cidr: Ipv4Cidr,
    /// This node's address.
    pub node_ip: Ipv4Addr,
    /// Where the record of changed settings is kept across restarts.
    pub state_dir: PathBuf,
    /// The namespace to work in, if not the process's own.
    pub namespace: Option<Arc<NetNamespace>>,
}

/// A pod to connect.
#[derive(Debug, Clone, Copy)]
pub struct AttachRequest<'a> {
    /// The file that stands for the pod's network namespace.
    pub netns: &'a Path,
    /// The pod.
    pub pod_uid: &'a str,
    /// An address that the pod should have, instead of any.
    pub requested: Option<Ipv4Addr>,
    /// Ports of the host that the pod wants.
    pub host_ports: &'a [HostPort],
}

/// A port of the host that a container wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
}

/// How a pod is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAddress {
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// Its default router.
    pub gateway: Ipv4Addr,
    /// The host's end of the pod's veth pair.
    pub host_link: String,
    /// Largest packet in bytes.
    pub mtu_bytes: u32,
}

/// A connected pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNetworkEntry {
    /// The pod.
    pub pod_uid: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The host's end of its veth pair.
    pub host_link: String,
}
