//! What of a Service and an EndpointSlice matters to packets.

use std::net::Ipv4Addr;

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// From its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number above IP.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// By its name in an object.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// Which endpoints traffic may go to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Cluster,
    /// Those on this node.
    Local,
}

/// A Service with an address. Headless ones and mere names have no view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceView {
    /// Its own address.
    pub cluster_ip: Option<Ipv4Addr>,
    /// Addresses that somebody routes to the nodes.
    pub external_ips: Vec<Ipv4Addr>,
    /// Addresses of load balancers that leave the destination as it is.
    pub load_balancer_ips: Vec<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<ServicePortView>,
    /// For traffic to its own address.
    pub internal_policy: TrafficPolicy,
    /// For traffic to node ports and foreign addresses.
    pub external_policy: TrafficPolicy,
    /// A client stays with its endpoint until it has been silent for so many seconds.
    pub affinity_seconds: Option<u32>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePortView {
    /// Its name; empty where there is only one.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number on the Service's addresses.
    pub port: u16,
    /// Its number on the nodes' addresses.
    pub node_port: Option<u16>,
}

/// A part of a Service's endpoints, of address type IPv4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSliceView {
    /// The Service, in the slice's namespace.
    pub service: String,
    /// The ports of all endpoints in it.
    pub ports: Vec<EndpointPortView>,
    /// The endpoints.
    pub endpoints: Vec<EndpointView>,
}

/// A port of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPortView {
    /// The Service's name for it.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// An endpoint. Kubernetes uses only the first address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointView {
    /// Its address.
    pub address: Ipv4Addr,
    /// Takes new connections.
    pub ready: bool,
    /// Answers, whether or not it is going.
    pub serving: bool,
    /// Is going.
    pub terminating: bool,
    /// The node that it is on.
    pub node: Option<String>,
}
