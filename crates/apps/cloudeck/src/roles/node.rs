//! The node: runtime, images, pod network, and the agent upon them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use cloudeck_agent::{Agent, AgentConfig, AgentDeps};
use cloudeck_auth::LocalIdentity;
use cloudeck_client::Client;
use cloudeck_image::{ImageStore, StoreConfig};
use cloudeck_machinery::{GroupVersionResource, Value, value};
use cloudeck_network::{NetworkConfig, PodNetwork};
use cloudeck_runtime::Runtime;
use cloudeck_task::Scope;

use super::server::ServerRole;
use crate::settings::{Places, Settings};

/// Upstream's default.
const MAX_PODS: u32 = 110;
/// Upstream renews every ten seconds.
const LEASE_INTERVAL: Duration = Duration::from_secs(10);
/// The level of the API that is served.
pub const KUBERNETES_VERSION: &str = "v1.37.0";

/// What the agent stands on, ready before there is an API.
pub struct Machine {
    runtime: Runtime,
    images: ImageStore,
    network: PodNetwork,
}

pub async fn prepare(places: &Places, settings: &Settings, ip: Ipv4Addr, scope: &Scope) -> Result<Machine> {
    let network = NetworkConfig {
        instance: places.instance.clone(),
        pod_cidr: settings.pod_range(),
        cluster_cidr: settings.cluster_range(),
        service_cidr: settings.service_range(),
        node_ip: ip,
        state_dir: places.network(),
        namespace: None,
    };
    let runtime = async {
        Runtime::open(places.runtime(), scope)
            .await
            .context("open the container runtime")
    };
    let network = async {
        PodNetwork::start(network)
            .await
            .context("prepare the pod network")
    };
    let images = async {
        let (root, scope) = (places.images(), scope.clone());
        let opened =
            tokio::task::spawn_blocking(move || ImageStore::open(&root, StoreConfig::default(), &scope));
        opened
            .await
            .context("open the image store")?
            .context("open the image store")
    };
    let (runtime, network, images) = tokio::try_join!(runtime, network, images)?;
    network.keep_table(scope).context("watch the pods' table")?;
    Ok(Machine {
        runtime,
        images,
        network,
    })
}

/// The running agent.
pub struct NodeRole {
    agent: Agent,
    client: Client,
    node_name: String,
}

pub async fn start(
    places: &Places,
    settings: &Settings,
    ip: Ipv4Addr,
    machine: Machine,
    server: &ServerRole,
    scope: &Scope,
) -> Result<NodeRole> {
    let config = AgentConfig {
        node_name: settings.node_name.clone(),
        node_ip: IpAddr::V4(ip),
        instance: places.instance.clone(),
        data_dir: places.data_dir.clone(),
        run_dir: places.run_dir.clone(),
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.node_port)),
        cluster_domain: settings.cluster_domain.clone(),
        cluster_dns: settings.service_address(10),
        max_pods: MAX_PODS,
        lease_interval: LEASE_INTERVAL,
        labels: std::collections::BTreeMap::new(),
        version: KUBERNETES_VERSION.to_owned(),
    };
    let client = server.client(LocalIdentity::node(&settings.node_name));
    let Machine {
        runtime,
        images,
        network,
    } = machine;
    let deps = AgentDeps {
        client: client.clone(),
        runtime,
        images,
        network,
        server: server.node_server(),
        clock: Arc::new(SystemTime::now),
    };
    let agent = cloudeck_agent::start(config, deps, scope)
        .await
        .context("start the node agent")?;
    Ok(NodeRole {
        agent,
        client,
        node_name: settings.node_name.clone(),
    })
}

impl NodeRole {
    /// Resolves when the API shows the node as Ready, and marks it as one of the control plane: no node may say that of
    /// itself.
    pub async fn ready(&self, server: &ServerRole) {
        self.agent.ready().await;
        let nodes = cloudeck_client::InformerConfig::all("", "v1", "nodes")
            .with_field_selector(format!("metadata.name={}", self.node_name));
        let scope = Scope::root("wait for node");
        let informer = cloudeck_client::Informer::start(&scope, self.client.clone(), nodes);
        let mut changes = informer.subscribe();
        loop {
            let change = changes.next().await;
            if change.new.is_some_and(|node| is_ready(&node.tree())) {
                break;
            }
        }
        scope.request_shutdown();
        let nodes = GroupVersionResource::new("", "v1", "nodes");
        let patch = value!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
        let admin = server.client(LocalIdentity::api_server());
        if let Err(error) = admin.merge_patch(&nodes, "", &self.node_name, "", &patch).await {
            tracing::warn!(%error, "node not marked as control plane");
        }
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.items_at(&["status", "conditions"]);
    conditions
        .iter()
        .any(|c| c.str_at(&["type"]) == Some("Ready") && c.str_at(&["status"]) == Some("True"))
}
