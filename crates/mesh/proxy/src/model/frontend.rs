//! What one Service wants: its addresses, and the endpoints behind each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use cloudeck_net::conntrack::Connections;

use crate::model::NodeView;
use crate::slots::Endpoint;
use crate::view::{EndpointSliceView, Protocol, ServicePortView, ServiceView, TrafficPolicy};

/// An address and port that clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// The address; `None` for a node port, which is on every address of the node.
    pub address: Option<Ipv4Addr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl Frontend {
    pub(crate) fn connections(self, answered_by: Option<Endpoint>) -> Connections {
        Connections {
            protocol: self.protocol.number(),
            destination: self.address,
            destination_port: self.port,
            answered_by: answered_by.map(|endpoint| (endpoint.address, endpoint.port)),
        }
    }
}

/// Whom a slot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everybody.
    Far,
    /// Pods and the node itself, who may use all endpoints although outsiders may use only local ones.
    Near,
}

/// How a client is told that there is nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// By "port unreachable": nowhere is an endpoint.
    Reject,
    /// Not at all: there are endpoints, but not here where the policy wants them.
    Drop,
}

/// What becomes of connections to a frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontendRules {
    /// The endpoints for everybody.
    pub far: Vec<Endpoint>,
    /// Other endpoints for pods and the node itself.
    pub near: Option<Vec<Endpoint>>,
    /// Clients stick to their endpoint until they have been silent for so long.
    pub affinity_seconds: Option<u32>,
    /// What everybody is told when there are no endpoints.
    pub refusal: Option<Refusal>,
    /// The addresses among the endpoints' that are pods of this node.
    pub hairpins: BTreeSet<Ipv4Addr>,
    /// Whether the frontend's address is the Service's own.
    pub is_cluster_ip: bool,
}

impl FrontendRules {
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = Endpoint> {
        self.far.iter().chain(self.near.iter().flatten()).copied()
    }
}

/// The frontends of a Service.
pub fn frontends<'a>(
    service: &ServiceView,
    slices: impl Iterator<Item = &'a EndpointSliceView> + Clone,
    node: &NodeView,
) -> BTreeMap<Frontend, FrontendRules> {
    let mut frontends = BTreeMap::new();
    for port in &service.ports {
        let found = Candidates::collect(port, slices.clone(), node);
        let backends = Backends::choose(&found);
        let protocol = port.protocol;
        let rules = |policy, is_cluster_ip| backends.rules(policy, is_cluster_ip, service, node);
        let external = service.external_ips.iter().chain(&service.load_balancer_ips);
        for address in external.copied() {
            let frontend = Frontend {
                address: Some(address),
                protocol,
                port: port.port,
            };
            frontends.insert(frontend, rules(service.external_policy, false));
        }
        if let Some(node_port) = port.node_port {
            let frontend = Frontend {
                address: None,
                protocol,
                port: node_port,
            };
            frontends.insert(frontend, rules(service.external_policy, false));
        }
        if let Some(address) = service.cluster_ip {
            let frontend = Frontend {
                address: Some(address),
                protocol,
                port: port.port,
            };
            frontends.insert(frontend, rules(service.internal_policy, true));
        }
    }
    frontends
}

/// All endpoints of a port, merged over the slices.
struct Candidates(BTreeMap<Endpoint, Candidate>);

#[derive(Default)]
struct Candidate {
    ready: bool,
    serving_terminating: bool,
    local: bool,
}

impl Candidates {
    fn collect<'a>(
        port: &ServicePortView,
        slices: impl Iterator<Item = &'a EndpointSliceView>,
        node: &NodeView,
    ) -> Self {
        let mut found: BTreeMap<Endpoint, Candidate> = BTreeMap::new();
        for slice in slices {
            let named = slice
                .ports
                .iter()
                .filter(|p| p.name == port.name && p.protocol == port.protocol);
            for target in named {
                for endpoint in &slice.endpoints {
                    let at = Endpoint {
                        address: endpoint.address,
                        port: target.port,
                    };
                    let candidate = found.entry(at).or_default();
                    candidate.ready |= endpoint.ready;
                    candidate.serving_terminating |= endpoint.serving && endpoint.terminating;
                    candidate.local |= endpoint.node.as_ref() == Some(&node.name);
                }
            }
        }
        Self(found)
    }

    /// Those that are ready, or when there are none, those that still answer while they are going.
    fn usable(&self, only_local: bool) -> Vec<Endpoint> {
        let pick = |wanted: fn(&Candidate) -> bool| -> Vec<Endpoint> {
            let all = self
                .0
                .iter()
                .filter(|(_, candidate)| candidate.local || !only_local);
            all.filter(|(_, candidate)| wanted(candidate))
                .map(|(endpoint, _)| *endpoint)
                .collect()
        };
        let ready = pick(|candidate| candidate.ready);
        if ready.is_empty() {
            pick(|candidate| candidate.serving_terminating)
        } else {
            ready
        }
    }
}

struct Backends {
    all: Vec<Endpoint>,
    local: Vec<Endpoint>,
    local_addresses: BTreeSet<Ipv4Addr>,
}

impl Backends {
    fn choose(candidates: &Candidates) -> Self {
        let local = candidates.0.iter().filter(|(_, candidate)| candidate.local);
        Self {
            all: candidates.usable(false),
            local: candidates.usable(true),
            local_addresses: local.map(|(endpoint, _)| endpoint.address).collect(),
        }
    }

    fn rules(
        &self,
        policy: TrafficPolicy,
        is_cluster_ip: bool,
        service: &ServiceView,
        node: &NodeView,
    ) -> FrontendRules {
        let far = match policy {
            TrafficPolicy::Cluster => self.all.clone(),
            TrafficPolicy::Local => self.local.clone(),
        };
        let near = (policy == TrafficPolicy::Local && !is_cluster_ip).then(|| self.all.clone());
        let nobody_anywhere = self.all.is_empty();
        let refusal = far.is_empty().then_some(if nobody_anywhere {
            Refusal::Reject
        } else {
            Refusal::Drop
        });
        let mut rules = FrontendRules {
            far,
            near,
            affinity_seconds: service.affinity_seconds,
            refusal,
            hairpins: BTreeSet::new(),
            is_cluster_ip,
        };
        let is_pod_here =
            |address: &Ipv4Addr| self.local_addresses.contains(address) && *address != node.address;
        rules.hairpins = rules
            .endpoints()
            .map(|endpoint| endpoint.address)
            .filter(is_pod_here)
            .collect();
        rules
    }
}
