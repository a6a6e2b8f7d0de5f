//! What every part of the agent shares: configuration, the client, and the machine's own services.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use cloudeck_client::{Client, Informer};
use cloudeck_controller::EventRecorder;
use cloudeck_image::ImageStore;
use cloudeck_network::PodNetwork;
use cloudeck_runtime::Runtime;
use cloudeck_task::Scope;

use crate::admission::Admitted;
use crate::config::AgentConfig;
use crate::config_objects::ConfigObjects;
use crate::machine::Capacity;
use crate::pod::Millis;
use crate::tokens::Tokens;
use crate::volumes::NodeFacts;

/// The node as its agent sees it.
pub struct Node {
    pub config: AgentConfig,
    pub scope: Scope,
    /// Under the node's identity.
    pub client: Client,
    pub recorder: EventRecorder,
    pub runtime: Runtime,
    pub images: ImageStore,
    pub network: PodNetwork,
    /// The pods bound to this node.
    pub pods: Informer,
    pub services: Informer,
    pub capacity: Capacity,
    pub admitted: Admitted,
    pub tokens: Tokens,
    pub config_objects: ConfigObjects,
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Node {
    pub fn now(&self) -> Millis {
        let since = (self.clock)()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
    }

    pub fn address(&self) -> IpAddr {
        self.config.node_ip
    }

    pub(crate) fn facts<'a>(&self, host_ip: &'a str, pod_ip: &'a str) -> NodeFacts<'a> {
        NodeFacts {
            host_ip,
            pod_ip,
            allocatable_cpu_milli: self.capacity.cpus.saturating_mul(1000),
            allocatable_memory_bytes: self.capacity.memory_bytes,
            allocatable_storage_bytes: self.capacity.disk_bytes,
        }
    }
}
