//! Starting and holding the agent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use cloudeck_client::{Client, Informer, InformerConfig};
use cloudeck_controller::EventRecorder;
use cloudeck_image::ImageStore;
use cloudeck_network::PodNetwork;
use cloudeck_runtime::Runtime;
use cloudeck_task::Scope;
use tokio::sync::watch;

use crate::admission::Admitted;
use crate::config::AgentConfig;
use crate::config_objects::ConfigObjects;
use crate::machine::Capacity;
use crate::manager::Manager;
use crate::node::Node;
use crate::server::{self, ServerConfig, StartServerError};
use crate::{registration, tokens};

/// What the agent stands on.
pub struct AgentDeps {
    /// Under the identity `system:node:NAME`.
    pub client: Client,
    pub runtime: Runtime,
    pub images: ImageStore,
    pub network: PodNetwork,
    pub server: ServerConfig,
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartAgentError {
    #[error("prepare the agent's directory {path}")]
    Directory {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("read the machine's capacity")]
    Capacity(#[source] std::io::Error),
    #[error(transparent)]
    Server(#[from] StartServerError),
    #[error("learn the address of the node's server")]
    Address(#[source] std::io::Error),
}

/// A running agent. Cheap to clone.
#[derive(Clone)]
pub struct Agent {
    address: SocketAddr,
    ready: watch::Receiver<bool>,
}

impl Agent {
    /// Where the node's server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when pods can run.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        // The agent's tasks hold the sender; at shutdown nobody waits any more.
        let _ = ready.wait_for(|ready| *ready).await;
    }
}

/// Binds, registers the node and begins to run its pods, all within `scope`.
pub async fn start(config: AgentConfig, deps: AgentDeps, scope: &Scope) -> Result<Agent, StartAgentError> {
    let scope = scope.child("agent");
    for path in [config.pods_dir(), config.logs_dir(), config.run_dir.clone()] {
        std::fs::create_dir_all(&path).map_err(|source| StartAgentError::Directory { path, source })?;
    }
    let capacity = Capacity::read(&config.data_dir, config.max_pods).map_err(StartAgentError::Capacity)?;
    let listening = server::bind(config.listen, deps.server).await?;
    let address = listening.address().map_err(StartAgentError::Address)?;
    let AgentDeps {
        client,
        runtime,
        images,
        network,
        clock,
        ..
    } = deps;
    let own = format!("spec.nodeName={}", config.node_name);
    let pods = InformerConfig::all("", "v1", "pods").with_field_selector(own);
    let node = Arc::new(Node {
        recorder: EventRecorder::start(&scope, client.clone(), "kubelet", &config.node_name),
        pods: Informer::start(&scope, client.clone(), pods),
        services: Informer::start(&scope, client.clone(), InformerConfig::all("", "v1", "services")),
        config,
        scope: scope.clone(),
        client,
        runtime,
        images,
        network,
        capacity,
        admitted: Admitted::default(),
        tokens: tokens::Tokens::default(),
        config_objects: ConfigObjects::default(),
        clock,
    });
    let (ready, is_ready) = watch::channel(false);
    listening.serve(&node);
    scope.spawn_until_shutdown(
        "node registration",
        registration::run(Arc::clone(&node), address.port(), is_ready.clone()),
    );
    let manager = Manager::new(Arc::clone(&node), node.pods.clone());
    scope.spawn_until_shutdown("pod manager", async move {
        // Containers may name Services in their environment: those come first.
        node.services.synced().await;
        node.pods.synced().await;
        ready.send_replace(true);
        manager.run().await;
    });
    Ok(Agent {
        address,
        ready: is_ready,
    })
}
