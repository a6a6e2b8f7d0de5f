//! What makes Services work on this node: the service proxy and cluster DNS.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use cloudeck_auth::LocalIdentity;
use cloudeck_client::Informer;
use cloudeck_dns::{Dns, DnsConfig, Upstream};
use cloudeck_net::Ipv4Cidr;
use cloudeck_proxy::{Proxy, ProxyConfig, follow};
use cloudeck_task::Scope;

use super::server::ServerRole;
use crate::settings::Settings;

/// The running service proxy and DNS server.
pub struct ServicesRole {
    services: Informer,
    slices: Informer,
    _proxy: Proxy,
    _dns: Dns,
    announced: tokio::sync::watch::Receiver<bool>,
}

pub fn start(
    instance: &str,
    settings: &Settings,
    server: &ServerRole,
    ip: Ipv4Addr,
    scope: &Scope,
) -> Result<ServicesRole> {
    let config = ProxyConfig {
        instance: instance.to_owned(),
        node_name: settings.node_name.clone(),
        node_ip: ip,
        pod_cidr: settings.pod_range(),
        cluster_cidr: settings.cluster_range(),
        service_cidr: settings.service_range(),
        namespace: None,
    };
    let client = server.client(LocalIdentity::component("system:kube-proxy"));
    let services = Informer::start(scope, client.clone(), follow::services());
    let slices = Informer::start(scope, client, follow::endpoint_slices());
    let proxy = Proxy::start(&config, scope).context("start the service proxy")?;
    proxy.follow(services.clone(), slices.clone(), scope);
    let own = Ipv4Cidr::new(ip, 32).expect("32 is a prefix length");
    let dns = DnsConfig {
        listen: SocketAddr::from((ip, 0)),
        cluster_domain: settings.cluster_domain.clone(),
        service_ip: settings.service_address(10),
        clients: vec![settings.cluster_range(), own],
        upstream: Upstream::Host,
        namespace: None,
    };
    let dns = Dns::start(dns, scope).context("start cluster DNS")?;
    dns.follow(services.clone(), slices.clone(), scope);
    // The server is the endpoint of the Service kube-dns: written once it listens.
    let client = server.client(LocalIdentity::api_server());
    let (announced, is_announced) = tokio::sync::watch::channel(false);
    let (node_name, address, service_ip) = (
        settings.node_name.clone(),
        dns.address(),
        settings.service_address(10),
    );
    scope.spawn_until_shutdown("announce DNS", async move {
        while let Err(error) =
            cloudeck_dns::announce::announce(&client, &node_name, service_ip, address).await
        {
            tracing::warn!(%error, "DNS not announced; trying again");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        announced.send_replace(true);
    });
    Ok(ServicesRole {
        services,
        slices,
        _proxy: proxy,
        _dns: dns,
        announced: is_announced,
    })
}

impl ServicesRole {
    /// Resolves when Services and endpoints are known and names resolve.
    pub async fn ready(&self) {
        self.services.synced().await;
        self.slices.synced().await;
        let mut announced = self.announced.clone();
        // The sender ends only with the daemon, and then nobody waits.
        let _ = announced.wait_for(|done| *done).await;
    }
}
