//! A cluster out of the product's parts, each of which can be stopped and started again.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cloudeck_apiserver::{Config, Server};
use cloudeck_auth::LocalIdentity;
use cloudeck_client::Client;
use cloudeck_controllers::ControllersConfig;
use cloudeck_engine::{MemoryOptions, MemoryStore, Store};
use cloudeck_pki::TokenKey;
use cloudeck_task::Scope;

use crate::book::Book;
use crate::network::{Network, Upstream};
use crate::node::Machine;
use crate::storage::Recorded;
use crate::trace::Trace;

const STOP: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Cluster {
    pub(crate) trace: Trace,
    pub(crate) book: Book,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    store: Arc<Recorded>,
    store_scope: Scope,
    token_key: Arc<TokenKey>,
    server: Option<Upstream>,
    controllers: Option<Scope>,
    scheduler: Option<Scope>,
}

impl Cluster {
    /// Starts everything but the machines.
    pub(crate) async fn start(seed: u64, trace: &Trace) -> Result<Self> {
        let book = Book::new(trace);
        let network = Network::new(seed, &book, trace);
        let store_scope = Scope::root("store");
        let store = Arc::new(MemoryStore::new(MemoryOptions::default(), &store_scope));
        let mut cluster = Self {
            trace: trace.clone(),
            store: Arc::new(Recorded::new(store, &book, false)),
            book,
            network,
            machines: Vec::new(),
            store_scope,
            token_key: Arc::new(TokenKey::generate().context("making a key for tokens")?),
            server: None,
            controllers: None,
            scheduler: None,
        };
        cluster.start_server().await?;
        cluster.start_controllers();
        cluster.start_scheduler();
        Ok(cluster)
    }

    pub(crate) fn add_machine(&mut self, cpu_millis: i64, seed: u64) {
        let machine = Machine::new(self.machines.len(), cpu_millis, &self.network, seed);
        self.machines.push(machine);
    }

    /// A client with all rights.
    pub(crate) fn admin(&self, name: &str) -> Client {
        self.network.client(LocalIdentity::api_server(), name)
    }

    pub(crate) async fn start_server(&mut self) -> Result<()> {
        let scope = Scope::root("server");
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let config = Config::new(address, 6443, Arc::clone(&self.token_key));
        let server = Server::start(config, Arc::clone(&self.store) as Arc<dyn Store>, &scope)
            .await
            .context("starting the server")?;
        let upstream = Upstream { server, scope };
        self.network.connect(Some(upstream.clone()));
        self.server = Some(upstream);
        self.trace.line("server started");
        Ok(())
    }

    /// Ends the server with all that is under way in it.
    pub(crate) async fn stop_server(&mut self) -> Result<()> {
        self.network.connect(None);
        self.trace.line("server stops");
        let Some(Upstream { server, scope }) = self.server.take() else {
            return Ok(());
        };
        server.shutdown(STOP).await;
        ended("server", scope.shutdown(STOP).await.failure)
    }

    pub(crate) fn start_controllers(&mut self) {
        let scope = Scope::root("controllers");
        let config = ControllersConfig {
            root_ca_pem: "the certificate".into(),
            cluster_domain: "cluster.local".into(),
        };
        let client = |account: &str| self.network.client(LocalIdentity::controller(account), account);
        // Ready when it is: nobody waits for it.
        let _ = cloudeck_controllers::start(config, &client, &scope);
        self.controllers = Some(scope);
        self.trace.line("controllers start");
    }

    pub(crate) async fn stop_controllers(&mut self) -> Result<()> {
        self.trace.line("controllers stop");
        stop("controllers", self.controllers.take()).await
    }

    pub(crate) fn start_scheduler(&mut self) {
        let scope = Scope::root("scheduler");
        let identity = LocalIdentity::component("system:kube-scheduler");
        let client = self.network.client(identity, "scheduler");
        // As above.
        let _ = cloudeck_scheduler::start(client, &scope);
        self.scheduler = Some(scope);
        self.trace.line("scheduler starts");
    }

    pub(crate) async fn stop_scheduler(&mut self) -> Result<()> {
        self.trace.line("scheduler stops");
        stop("scheduler", self.scheduler.take()).await
    }

    /// Ends everything, and says what had failed.
    pub(crate) async fn stop(mut self) -> Result<()> {
        for machine in &mut self.machines {
            ended(&machine.name.clone(), machine.stop().await)?;
        }
        self.stop_scheduler().await?;
        self.stop_controllers().await?;
        self.stop_server().await?;
        let in_doubt = self.store.in_doubt().len();
        if in_doubt > 0 {
            self.trace
                .violation(format!("{in_doubt} writes were left in doubt"));
        }
        ended("store", self.store_scope.shutdown(STOP).await.failure)
    }
}

async fn stop(name: &str, scope: Option<Scope>) -> Result<()> {
    let Some(scope) = scope else { return Ok(()) };
    ended(name, scope.shutdown(STOP).await.failure)
}

fn ended(name: &str, failure: Option<String>) -> Result<()> {
    failure.map_or(Ok(()), |failure| Err(anyhow!("{name} failed: {failure}")))
}
