//! What the server is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cloudeck_net::{Ipv4Cidr, NetNamespace};

/// Settings of the cluster's DNS server.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Where to listen, by UDP and TCP; port 0 chooses a free one.
    pub listen: SocketAddr,
    /// The cluster's domain, without dots at its ends.
    pub cluster_domain: String,
    /// The address of the Service `kube-dns`.
    pub service_ip: Ipv4Addr,
    /// Who is answered, beside the loopback range: the pods' range and the node's address.
    pub clients: Vec<Ipv4Cidr>,
    /// Who answers what is not the cluster's.
    pub upstream: Upstream,
    /// The namespace to listen and to ask in, if not the process's own.
    pub namespace: Option<Arc<NetNamespace>>,
}

/// Servers for names outside of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// Those in the host's `/etc/resolv.conf`, read anew for each question, as it changes under a running daemon.
    Host,
    /// These.
    Servers(Vec<SocketAddr>),
}
