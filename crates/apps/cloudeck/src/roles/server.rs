//! The API server with its datastore, certificates and network edge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use cloudeck_apiserver::http::{self, EdgeConfig, EdgeHandle, TlsNodes};
use cloudeck_apiserver::{Cidr, Config, Server};
use cloudeck_auth::{Authenticator, LocalIdentity};
use cloudeck_client::Client;
use cloudeck_engine::{EmbeddedOptions, EmbeddedStore, Store};
use cloudeck_pki::{ClientVerifier, ClusterPki, PkiConfig, ServingCertificate};
use cloudeck_task::Scope;
use cloudeck_telemetry::Registry;
use tokio::net::TcpListener;

use crate::settings::{Places, Settings, write_atomically};

/// A running API server.
pub struct ServerRole {
    server: Server,
    edge: EdgeHandle,
    pki_config: PkiConfig,
    pki: std::sync::Mutex<ClusterPki>,
    certificate: Arc<ServingCertificate>,
    kubelet_certificate: Arc<ServingCertificate>,
}

pub async fn start(places: &Places, settings: &Settings, ip: Ipv4Addr, scope: &Scope) -> Result<ServerRole> {
    let pki_config = PkiConfig {
        node_name: settings.node_name.clone(),
        node_addresses: vec![IpAddr::V4(ip), IpAddr::V4(Ipv4Addr::LOCALHOST)],
        service_address: IpAddr::V4(settings.service_address(1)),
        cluster_domain: settings.cluster_domain.clone(),
        extra_names: Vec::new(),
    };
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.port));
    let listener = TcpListener::bind(listen).await;
    let listener =
        listener.with_context(|| format!("listen on port {} for the Kubernetes API", settings.port))?;
    let pki = ClusterPki::ensure(&places.data_dir.join("pki"), &pki_config, SystemTime::now())
        .context("prepare certificates")?;
    write_kubeconfig(places, settings, ip, &pki)?;
    let store = open_store(places, scope).await?;
    let mut config = Config::new(IpAddr::V4(ip), settings.port, Arc::clone(&pki.token_key));
    config.service_cidr = cidr(&settings.service_cidr);
    config.pod_cidr = cidr(&settings.cluster_cidr);
    config.api_horizon = settings.api_horizon();
    config.cluster_domain.clone_from(&settings.cluster_domain);
    config.issuer = format!("https://kubernetes.default.svc.{}", settings.cluster_domain);
    #[cfg(feature = "explain")]
    {
        let documents = cloudeck_schema::openapi::Documents::new(Some(cloudeck_descriptions::load));
        config.openapi = Arc::new(documents);
    }
    let server = Server::start(config, store, scope)
        .await
        .context("start the API server")?;
    let certificate = Arc::new(ServingCertificate::new(&pki.apiserver)?);
    let kubelet_certificate = Arc::new(ServingCertificate::new(&pki.kubelet)?);
    let edge = http::serve(
        &server,
        listener,
        edge_config(&server, &pki, Arc::clone(&certificate))?,
        scope,
    )?;
    Ok(ServerRole {
        server,
        edge,
        pki_config,
        pki: std::sync::Mutex::new(pki),
        certificate,
        kubelet_certificate,
    })
}

async fn open_store(places: &Places, scope: &Scope) -> Result<Arc<dyn Store>> {
    let directory = places.data_dir.join("store");
    let scope = scope.clone();
    let open = move || EmbeddedStore::open(&directory, EmbeddedOptions::default(), &scope);
    let handle = tokio::runtime::Handle::current();
    let opened = tokio::task::spawn_blocking(move || {
        let _entered = handle.enter();
        open()
    });
    let store = opened
        .await
        .context("open the datastore")?
        .context("open the datastore")?;
    Ok(Arc::new(store))
}

fn cidr(text: &str) -> Cidr {
    let (address, prefix) = crate::cli::cidr(text).expect("checked when settled");
    Cidr { address, prefix }
}

fn write_kubeconfig(places: &Places, settings: &Settings, ip: Ipv4Addr, pki: &ClusterPki) -> Result<()> {
    let url = format!("https://{ip}:{}", settings.port);
    let name = if places.instance == "default" {
        "cloudeck".to_owned()
    } else {
        format!("cloudeck-{}", places.instance)
    };
    let text =
        cloudeck_pki::render_kubeconfig(&name, &url, pki.serving_authority.certificate_pem(), &pki.admin);
    write_atomically(&places.kubeconfig(), text.as_bytes())
}

fn edge_config(
    server: &Server,
    pki: &ClusterPki,
    certificate: Arc<ServingCertificate>,
) -> Result<EdgeConfig> {
    let authorities = [
        pki.client_authority.certificate().clone(),
        pki.front_proxy_authority.certificate().clone(),
    ];
    let tls = cloudeck_pki::server_config(certificate, &authorities, &[b"h2", b"http/1.1"])?;
    let clients = ClientVerifier::new(pki.client_authority.certificate())?;
    let front_proxies = ClientVerifier::new(pki.front_proxy_authority.certificate())?;
    let authenticator = Arc::new(Authenticator::new(clients, front_proxies, server.tokens()));
    let trust = pki.serving_authority.certificate_pem();
    let nodes = cloudeck_pki::client_config(trust, Some(&pki.kubelet_client), &[b"http/1.1"])?;
    Ok(EdgeConfig {
        tls,
        authenticator,
        nodes: Arc::new(TlsNodes::new(nodes)),
        metrics: Registry::new(),
    })
}

impl ServerRole {
    /// A client in this process under the identity.
    pub fn client(&self, identity: LocalIdentity) -> Client {
        self.server.client(identity)
    }

    /// Lets the API tell of a part of the control plane.
    pub fn tell_of(
        &self,
        component: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.server.tell_of(component, check);
    }

    /// What the node's own server needs.
    pub fn node_server(&self) -> cloudeck_agent::ServerConfig {
        let pki = self.pki.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        cloudeck_agent::ServerConfig {
            certificate: Arc::clone(&self.kubelet_certificate),
            client_authority: pki.client_authority.certificate().clone(),
        }
    }

    /// The authority that vouches for servers, PEM.
    pub fn serving_authority_pem(&self) -> String {
        let pki = self.pki.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        pki.serving_authority.certificate_pem().to_owned()
    }

    /// Issues anew what comes near its end, under running connections.
    pub fn renew_certificates(&self) -> Result<()> {
        let mut pki = self.pki.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = SystemTime::now();
        if now < pki.renew_at() {
            return Ok(());
        }
        *pki = pki.refresh(&self.pki_config, now).context("renew certificates")?;
        self.certificate.replace(&pki.apiserver)?;
        self.kubelet_certificate.replace(&pki.kubelet)?;
        Ok(())
    }

    /// Lets requests under way finish.
    pub async fn shutdown(self, deadline: Duration) {
        self.edge.shutdown(deadline).await;
        self.server.shutdown(deadline).await;
    }
}
