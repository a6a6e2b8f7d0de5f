//! A node with pods and a proxy that is told things by hand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use cloudeck_net::NetNamespace;
use cloudeck_netlab::{Answer, Lab, NODE, Pod, PodNetwork, Server, ask_tcp};
use cloudeck_proxy::view::{
    EndpointPortView, EndpointSliceView, EndpointView, ObjectKey, Protocol, ServicePortView, ServiceView,
};
use cloudeck_proxy::{Change, Proxy, ProxyConfig};
use cloudeck_task::Scope;

pub(crate) const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub(crate) const NODE_NAME: &str = "here";

pub(crate) struct Rig {
    pub(crate) lab: Lab,
    pub(crate) network: PodNetwork,
    pub(crate) proxy: Proxy,
    scope: Scope,
    told: std::cell::Cell<u64>,
}

/// A pod with a server in it.
pub(crate) struct Backend {
    pub(crate) pod: Pod,
    pub(crate) server: Server,
}

impl Backend {
    pub(crate) fn endpoint(&self) -> EndpointView {
        endpoint(self.pod.address.ip)
    }
}

pub(crate) fn endpoint(address: Ipv4Addr) -> EndpointView {
    EndpointView {
        address,
        ready: true,
        serving: true,
        terminating: false,
        node: Some(NODE_NAME.to_owned()),
    }
}

impl Rig {
    pub(crate) async fn new(instance: &str) -> Self {
        let lab = Lab::new(instance);
        let network = lab.start_network().await;
        let scope = Scope::root("test");
        let proxy = Proxy::start(&proxy_config(&lab), &scope).unwrap();
        let rig = Self {
            lab,
            network,
            proxy,
            scope,
            told: 0.into(),
        };
        rig.tell(Change::Synced).await;
        rig
    }

    /// Starts another proxy in place of this one, which is told nothing yet.
    pub(crate) fn restart(&mut self) {
        self.scope.request_shutdown();
        self.scope = Scope::root("test");
        self.proxy = Proxy::start(&proxy_config(&self.lab), &self.scope).unwrap();
        self.told.set(0);
    }

    /// Ends the proxy; what it has installed stays.
    pub(crate) async fn stop(&self) {
        self.scope.shutdown(std::time::Duration::from_secs(20)).await;
    }

    pub(crate) async fn backend(&self, name: &str, port: u16) -> Backend {
        let pod = self.lab.pod(&self.network, name).await;
        let server = Server::start(&pod.namespace, name, port);
        Backend { pod, server }
    }

    /// Tells a change and waits until it is installed.
    pub(crate) async fn tell(&self, change: Change) {
        assert!(self.proxy.tell(change).await);
        self.told.set(self.told.get() + 1);
        assert!(self.proxy.wait_for_changes(self.told.get()).await);
        assert!(!self.proxy.progress().borrow().failing);
    }

    pub(crate) async fn tell_service(&self, service: ServiceView) {
        self.tell(Change::Service(key("s"), Some(service))).await;
    }

    pub(crate) async fn tell_endpoints(&self, endpoints: Vec<EndpointView>) {
        self.tell_slice("s-1", 8080, endpoints).await;
    }

    pub(crate) async fn tell_slice(&self, name: &str, port: u16, endpoints: Vec<EndpointView>) {
        let port = |protocol| EndpointPortView {
            name: String::new(),
            protocol,
            port,
        };
        let ports = vec![port(Protocol::Tcp), port(Protocol::Udp)];
        let slice = EndpointSliceView {
            service: "s".to_owned(),
            ports,
            endpoints,
        };
        self.tell(Change::EndpointSlice(key(name), Some(slice))).await;
    }

    pub(crate) fn node(&self) -> &NetNamespace {
        &self.lab.node
    }
}

/// Which servers answer in so many connections, and how often.
pub(crate) fn spread(
    from: &NetNamespace,
    address: Ipv4Addr,
    port: u16,
    count: usize,
) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for _ in 0..count {
        let answer: Answer = ask_tcp(from, address, port).unwrap();
        *spread.entry(answer.server).or_default() += 1;
    }
    spread
}

pub(crate) fn proxy_config(lab: &Lab) -> ProxyConfig {
    ProxyConfig {
        instance: lab.config.instance.clone(),
        node_name: NODE_NAME.to_owned(),
        node_ip: NODE,
        pod_cidr: lab.config.pod_cidr,
        cluster_cidr: lab.config.cluster_cidr,
        service_cidr: lab.config.service_cidr,
        namespace: lab.config.namespace.clone(),
    }
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

/// Port 80 by TCP and UDP, node port 30080 if wanted.
pub(crate) fn service(node_port: Option<u16>) -> ServiceView {
    let port = |protocol| ServicePortView {
        name: String::new(),
        protocol,
        port: 80,
        node_port,
    };
    ServiceView {
        cluster_ip: Some(CLUSTER_IP),
        ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
        ..ServiceView::default()
    }
}
