//! The real API server on the memory store, over real TLS on a port of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use cloudeck_apiserver::http::{self, EdgeConfig, EdgeHandle, NodeDialer, TlsNodes};
use cloudeck_apiserver::{Config, Server};
use cloudeck_auth::{Authenticator, LocalIdentity};
use cloudeck_client::Client;
use cloudeck_engine::{MemoryOptions, MemoryStore, Store};
use cloudeck_pki::{ClientVerifier, ClusterPki, PkiConfig, ServingCertificate, render_kubeconfig};
use cloudeck_task::Scope;
use cloudeck_telemetry::Registry;

const SHUTDOWN: Duration = Duration::from_secs(5);

/// A server for one test. Ends with [`TestServer::stop`], or when it is dropped together with its runtime.
pub struct TestServer {
    pub server: Server,
    pub pki: ClusterPki,
    pub store: Arc<dyn Store>,
    edge: EdgeHandle,
    scope: Scope,
    directory: tempfile::TempDir,
}

impl TestServer {
    /// Starts on the memory store.
    pub async fn start() -> anyhow::Result<Self> {
        let scope = Scope::root("testkit");
        let store = Arc::new(MemoryStore::new(MemoryOptions::default(), &scope));
        Self::start_on(store, scope).await
    }

    /// Starts on the memory store with something else in the place of nodes.
    pub async fn start_with_nodes(nodes: Arc<dyn NodeDialer>) -> anyhow::Result<Self> {
        let scope = Scope::root("testkit");
        let store = Arc::new(MemoryStore::new(MemoryOptions::default(), &scope));
        Self::assemble(store, scope, Some(nodes)).await
    }

    /// Starts on `store`; `scope` ends with the server.
    pub async fn start_on(store: Arc<dyn Store>, scope: Scope) -> anyhow::Result<Self> {
        Self::assemble(store, scope, None).await
    }

    async fn assemble(
        store: Arc<dyn Store>,
        scope: Scope,
        nodes: Option<Arc<dyn NodeDialer>>,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("making a directory for certificates")?;
        let pki = ClusterPki::ensure(&directory.path().join("pki"), &pki_config(), SystemTime::now())?;
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = tokio::net::TcpListener::bind((localhost, 0)).await?;
        let port = listener.local_addr()?.port();
        let key = Arc::new(cloudeck_pki::TokenKey::generate()?);
        // Endpoints may not be loopback addresses, so the advertised one is made up.
        let config = Config::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port, key);
        let server = Server::start(config, Arc::clone(&store), &scope).await?;
        let edge = http::serve(&server, listener, edge_config(&server, &pki, nodes)?, &scope)?;
        Ok(Self {
            server,
            pki,
            store,
            edge,
            scope,
            directory,
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.edge.address()
    }

    /// A client in this process with all rights.
    pub fn admin(&self) -> Client {
        self.server.client_as(LocalIdentity::api_server(), "testkit")
    }

    /// A client in this process under another identity.
    pub fn client(&self, identity: LocalIdentity) -> Client {
        self.server.client(identity)
    }

    /// The administrator's kubeconfig, for clients over TLS.
    pub fn kubeconfig(&self) -> String {
        let url = format!("https://{}", self.address());
        render_kubeconfig(
            "test",
            &url,
            self.pki.serving_authority.certificate_pem(),
            &self.pki.admin,
        )
    }

    /// The same as a file, which lives as long as the server.
    pub fn kubeconfig_path(&self) -> anyhow::Result<std::path::PathBuf> {
        let path = self.directory.path().join("kubeconfig");
        std::fs::write(&path, self.kubeconfig())?;
        Ok(path)
    }

    /// Stops everything and waits for it.
    pub async fn stop(self) {
        self.edge.shutdown(SHUTDOWN).await;
        self.server.shutdown(SHUTDOWN).await;
        self.scope.shutdown(SHUTDOWN).await;
    }
}

fn pki_config() -> PkiConfig {
    PkiConfig {
        node_name: "test-node".into(),
        node_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        service_address: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
        cluster_domain: "cluster.local".into(),
        extra_names: Vec::new(),
    }
}

fn edge_config(
    server: &Server,
    pki: &ClusterPki,
    nodes: Option<Arc<dyn NodeDialer>>,
) -> anyhow::Result<EdgeConfig> {
    let certificate = Arc::new(ServingCertificate::new(&pki.apiserver)?);
    let authorities = [
        pki.client_authority.certificate().clone(),
        pki.front_proxy_authority.certificate().clone(),
    ];
    let tls = cloudeck_pki::server_config(certificate, &authorities, &[b"h2", b"http/1.1"])?;
    let clients = ClientVerifier::new(pki.client_authority.certificate())?;
    let front_proxies = ClientVerifier::new(pki.front_proxy_authority.certificate())?;
    let authenticator = Arc::new(Authenticator::new(clients, front_proxies, server.tokens()));
    let nodes = if let Some(nodes) = nodes {
        nodes
    } else {
        let authority = pki.serving_authority.certificate_pem();
        let config = cloudeck_pki::client_config(authority, Some(&pki.kubelet_client), &[b"http/1.1"])?;
        Arc::new(TlsNodes::new(config))
    };
    let metrics = Registry::new();
    Ok(EdgeConfig {
        tls,
        authenticator,
        nodes,
        metrics,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_starts_answers_and_stops() {
        let test = TestServer::start().await.unwrap();
        assert!(test.kubeconfig().contains("https://127.0.0.1:"));
        test.stop().await;
    }
}
