//! What the proxy is told.

use std::net::Ipv4Addr;
use std::sync::Arc;

use cloudeck_net::{Ipv4Cidr, NetNamespace};

/// Settings of the proxy of one node.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The table's name derives from it.
    pub instance: String,
    /// This node's name: endpoints on it are local.
    pub node_name: String,
    /// This node's address: what connections that must come back here are given as their source.
    pub node_ip: Ipv4Addr,
    /// The range of this node's pods.
    pub pod_cidr: Ipv4Cidr,
    /// The range of all pods.
    pub cluster_cidr: Ipv4Cidr,
    /// The range of the Services' addresses.
    pub service_cidr: Ipv4Cidr,
    /// The namespace to work in, if not the process's own.
    pub namespace: Option<Arc<NetNamespace>>,
}

impl ProxyConfig {
    pub(crate) fn table(&self) -> String {
        table_of(&self.instance)
    }
}

pub(crate) fn table_of(instance: &str) -> String {
    format!("cloudeck-{instance}-services")
}
