//! A cluster out of the product's parts, each of which can be stopped and started again.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cloudeck_apiserver::{Config, Server};
use cloudeck_auth::LocalIdentity;
use cloudeck_client::Client;
use cloudeck_controllers::ControllersConfig;
use cloudeck_pki::TokenKey;
use cloudeck_task::Scope;

use crate::book::Book;
use crate::dice::Dice;
use crate::engine::Engine;
use crate::network::{Network, Upstream};
use crate::node::Machine;
use crate::trace::Trace;

const STOP: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Cluster {
    pub(crate) trace: Trace,
    pub(crate) book: Book,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    engine: Engine,
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
        let engine = Engine::open(&mut Dice::of(seed, "engine"), &book, trace)?;
        let mut cluster = Self {
            trace: trace.clone(),
            engine,
            book,
            network,
            machines: Vec::new(),
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

    /// `flickers` says whether its pods are unready now and then.
    pub(crate) fn add_machine(&mut self, cpu_millis: i64, seed: u64, flickers: bool) {
        let machine = Machine::new(self.machines.len(), cpu_millis, &self.network, seed, flickers);
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
        let server = Server::start(config, self.engine.store(), &scope)
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

    /// The server's disk fails it within the next writes, and it starts again with what was kept.
    pub(crate) async fn crash_server(&mut self, dice: &mut Dice) -> Result<()> {
        self.engine.doom(dice).await;
        if let Some(upstream) = self.server.take() {
            let stopped = upstream.scope.shutdown_requested();
            // It may have nothing to write.
            let _ = tokio::time::timeout(Duration::from_secs(20), stopped).await;
            self.network.connect(None);
            upstream.server.shutdown(STOP).await;
            upstream.scope.shutdown(STOP).await;
        }
        tokio::time::sleep(dice.millis(0, 3_000)).await;
        self.engine
            .crash(dice)
            .await
            .context("opening the datastore after a crash")?;
        self.start_server().await
    }

    pub(crate) fn can_crash(&self) -> bool {
        self.engine.can_crash()
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
        self.book.binding_in_doubt();
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
        ended("store", self.engine.stop().await)
    }
}

async fn stop(name: &str, scope: Option<Scope>) -> Result<()> {
    let Some(scope) = scope else { return Ok(()) };
    ended(name, scope.shutdown(STOP).await.failure)
}

fn ended(name: &str, failure: Option<String>) -> Result<()> {
    failure.map_or(Ok(()), |failure| Err(anyhow!("{name} failed: {failure}")))
}
