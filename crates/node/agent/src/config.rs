//! How one node agent is set up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Plain values; nothing here is read from the environment.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    pub node_name: String,
    pub node_ip: IpAddr,
    /// The instance of the product on this machine.
    pub instance: String,
    /// Survives a reboot.
    pub data_dir: PathBuf,
    /// Does not survive a reboot: secrets lie here, in memory.
    pub run_dir: PathBuf,
    /// The node's own HTTPS server; port 0 for any.
    pub listen: SocketAddr,
    pub cluster_domain: String,
    pub cluster_dns: Ipv4Addr,
    pub max_pods: u32,
    /// How often the node's lease is renewed while nothing changes.
    pub lease_interval: Duration,
    /// Address and port of the API server as pods see it, for `KUBERNETES_SERVICE_*`.
    pub labels: std::collections::BTreeMap<String, String>,
    pub version: String,
}

impl AgentConfig {
    /// Directories of pods: volumes, `/etc/hosts`, termination messages.
    pub fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("pods")
    }

    /// What `localhostProfile` of a pod is relative to.
    pub fn seccomp_dir(&self) -> PathBuf {
        self.data_dir.join("seccomp")
    }

    /// Container logs, as `/var/log/pods` of upstream: `<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    pub fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }
}
