//! What the names of the cluster's domain mean. Pure.
//!
//! Source: the specification "Kubernetes DNS-Based Service Discovery", version 1.1.0; where it is silent, CoreDNS's
//! behaviour with `pods insecure`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use cloudeck_machinery::ObjectKey;

mod record;
#[cfg(test)]
mod tests;

pub use record::{Endpoint, Port, ServiceKind, ServiceRecord, SliceRecord};

const SPECIFICATION: &str = "1.1.0";

/// What is asked for. Other types have no records anywhere in the zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// Ports.
    Srv,
    /// Names of an address.
    Ptr,
    /// Texts.
    Txt,
    /// The zone's authority.
    Soa,
    /// The zone's servers.
    Ns,
    /// Anything else.
    Other,
}

/// A record of the name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// A port of a name, with that name's address where it is known.
    Srv {
        /// The port.
        port: u16,
        /// The name.
        target: String,
        /// Its address.
        address: Ipv4Addr,
    },
    /// A name of the address.
    Ptr(String),
    /// A text.
    Txt(String),
    /// The zone's authority.
    Soa,
    /// A server of the zone.
    Ns(String),
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It lies outside of the cluster's domain.
    NotOurs,
    /// There is no such name.
    NoSuchName,
    /// The name exists; it may have no record of this kind.
    Records(Vec<Data>),
    /// It stands for another name.
    Alias(String),
}

/// The cluster's domain.
#[derive(Debug)]
pub struct Zone {
    domain: String,
    dns_ip: Ipv4Addr,
    services: HashMap<ObjectKey, ServiceRecord>,
    slices: HashMap<ObjectKey, BTreeMap<String, SliceRecord>>,
    slice_owners: HashMap<ObjectKey, ObjectKey>,
    /// Whose names an address has.
    reverse: HashMap<Ipv4Addr, BTreeSet<ObjectKey>>,
    /// How many Services a namespace has.
    namespaces: HashMap<String, usize>,
}

impl Zone {
    /// Without any Service; `dns_ip` is the server's own.
    pub fn new(domain: &str, dns_ip: Ipv4Addr) -> Self {
        Self {
            domain: domain.to_ascii_lowercase(),
            dns_ip,
            services: HashMap::new(),
            slices: HashMap::new(),
            slice_owners: HashMap::new(),
            reverse: HashMap::new(),
            namespaces: HashMap::new(),
        }
    }

    /// The domain, without dots at its ends.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// A Service is as told, or is gone.
    pub fn set_service(&mut self, key: ObjectKey, service: Option<ServiceRecord>) {
        self.unindex(&key);
        let known = self.services.contains_key(&key);
        let exists = service.is_some();
        match service {
            Some(service) => self.services.insert(key.clone(), service),
            None => self.services.remove(&key),
        };
        if known != exists {
            self.count_namespace(&key, exists);
        }
        self.index(&key);
    }

    /// An EndpointSlice is as told, with the name of its Service, or is gone.
    pub fn set_slice(&mut self, key: ObjectKey, slice: Option<(String, SliceRecord)>) {
        if let Some(owner) = self.slice_owners.remove(&key) {
            self.unindex(&owner);
            if let Some(slices) = self.slices.get_mut(&owner) {
                slices.remove(key.name.as_str());
                if slices.is_empty() {
                    self.slices.remove(&owner);
                }
            }
            self.index(&owner);
        }
        let Some((service, slice)) = slice else { return };
        let owner = ObjectKey::new(&key.namespace, &service);
        self.unindex(&owner);
        self.slices
            .entry(owner.clone())
            .or_default()
            .insert(key.name.to_string(), slice);
        self.index(&owner);
        self.slice_owners.insert(key, owner);
    }

    /// What a name means; upper and lower case are the same, a dot at the end is ignored.
    pub fn look_up(&self, name: &str, kind: Kind) -> Outcome {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if let Some(address) = reverse_address(&name) {
            return self.look_up_address(address, kind);
        }
        let Some(relative) = relative_to(&name, &self.domain) else {
            return Outcome::NotOurs;
        };
        let labels: Vec<&str> = relative.split('.').filter(|label| !label.is_empty()).collect();
        match labels.as_slice() {
            [] => match kind {
                Kind::Soa => Outcome::Records(vec![Data::Soa]),
                Kind::Ns => Outcome::Records(vec![Data::Ns(self.server_name())]),
                _ => Outcome::Records(Vec::new()),
            },
            ["dns-version"] => only(kind == Kind::Txt, || Data::Txt(SPECIFICATION.to_owned())),
            ["ns", "dns"] => only(kind == Kind::A, || Data::A(self.dns_ip)),
            [rest @ .., "svc"] => self.look_up_service(rest, kind),
            [rest @ .., "pod"] => look_up_pod(rest, kind),
            _ => Outcome::NoSuchName,
        }
    }

    /// The name of the zone's server.
    pub fn server_name(&self) -> String {
        format!("ns.dns.{}", self.domain)
    }

    fn look_up_service(&self, labels: &[&str], kind: Kind) -> Outcome {
        let (labels, key) = match labels {
            [] => return Outcome::Records(Vec::new()),
            [namespace] if self.namespaces.contains_key(*namespace) => return Outcome::Records(Vec::new()),
            [_] => return Outcome::NoSuchName,
            [labels @ .., service, namespace] => (labels, ObjectKey::new(namespace, service)),
        };
        let Some(service) = self.services.get(&key) else {
            return Outcome::NoSuchName;
        };
        if let ServiceKind::Alias(target) = &service.kind {
            return if labels.is_empty() {
                Outcome::Alias(target.clone())
            } else {
                Outcome::NoSuchName
            };
        }
        match labels {
            [] => Outcome::Records(self.service_records(&key, service, kind)),
            [protocol] if is_protocol(protocol) => Outcome::Records(Vec::new()),
            [hostname] => self.endpoint_records(&key, hostname, kind),
            [port, protocol] => {
                let wanted = port.strip_prefix('_').zip(protocol.strip_prefix('_'));
                let Some(wanted) = wanted else {
                    return Outcome::NoSuchName;
                };
                let found = self.ports(&key, service, Some(wanted));
                match (found.is_empty(), kind) {
                    (true, _) => Outcome::NoSuchName,
                    (false, Kind::Srv) => Outcome::Records(found),
                    (false, _) => Outcome::Records(Vec::new()),
                }
            }
            _ => Outcome::NoSuchName,
        }
    }

    fn service_records(&self, key: &ObjectKey, service: &ServiceRecord, kind: Kind) -> Vec<Data> {
        match (kind, &service.kind) {
            (Kind::A, ServiceKind::Address(address)) => vec![Data::A(*address)],
            (Kind::A, _) => {
                let addresses: BTreeSet<Ipv4Addr> = self.endpoints(key).map(|(_, e)| e.address).collect();
                addresses.into_iter().map(Data::A).collect()
            }
            (Kind::Srv, _) => self.ports(key, service, None),
            _ => Vec::new(),
        }
    }

    fn endpoint_records(&self, key: &ObjectKey, hostname: &str, kind: Kind) -> Outcome {
        let named = self
            .endpoints(key)
            .filter(|(_, endpoint)| endpoint.label() == hostname);
        let addresses: BTreeSet<Ipv4Addr> = named.map(|(_, endpoint)| endpoint.address).collect();
        match (addresses.is_empty(), kind) {
            (true, _) => Outcome::NoSuchName,
            (false, Kind::A) => Outcome::Records(addresses.into_iter().map(Data::A).collect()),
            (false, _) => Outcome::Records(Vec::new()),
        }
    }

    /// The named ports, or the one that is wanted by name and protocol.
    fn ports(&self, key: &ObjectKey, service: &ServiceRecord, wanted: Option<(&str, &str)>) -> Vec<Data> {
        let fits = |port: &&Port| match wanted {
            Some((name, protocol)) => port.name == name && port.protocol.eq_ignore_ascii_case(protocol),
            None => !port.name.is_empty(),
        };
        let mut found = Vec::new();
        if let ServiceKind::Address(address) = service.kind {
            let target = self.service_name(key);
            let ports = service.ports.iter().filter(fits);
            found.extend(ports.map(|port| Data::Srv {
                port: port.number,
                target: target.clone(),
                address,
            }));
            return found;
        }
        for (slice, endpoint) in self.endpoints(key) {
            for port in slice.ports.iter().filter(fits) {
                let target = self.endpoint_name(key, endpoint);
                let data = Data::Srv {
                    port: port.number,
                    target,
                    address: endpoint.address,
                };
                if !found.contains(&data) {
                    found.push(data);
                }
            }
        }
        found
    }

    fn look_up_address(&self, address: Ipv4Addr, kind: Kind) -> Outcome {
        let Some(owners) = self.reverse.get(&address) else {
            return Outcome::NotOurs;
        };
        if kind != Kind::Ptr {
            return Outcome::Records(Vec::new());
        }
        let names = owners
            .iter()
            .flat_map(|key| self.names_of(key, address))
            .map(Data::Ptr);
        Outcome::Records(names.collect())
    }

    fn names_of(&self, key: &ObjectKey, address: Ipv4Addr) -> Vec<String> {
        match self.services.get(key).map(|service| &service.kind) {
            Some(ServiceKind::Address(own)) if *own == address => vec![self.service_name(key)],
            Some(ServiceKind::Headless) => {
                let here = self
                    .endpoints(key)
                    .filter(|(_, endpoint)| endpoint.address == address);
                let names: BTreeSet<String> = here
                    .map(|(_, endpoint)| self.endpoint_name(key, endpoint))
                    .collect();
                names.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn endpoints(&self, key: &ObjectKey) -> impl Iterator<Item = (&SliceRecord, &Endpoint)> {
        let slices = self.slices.get(key).into_iter().flat_map(BTreeMap::values);
        slices.flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (slice, endpoint)))
    }

    fn service_name(&self, key: &ObjectKey) -> String {
        format!("{}.{}.svc.{}", key.name, key.namespace, self.domain)
    }

    fn endpoint_name(&self, key: &ObjectKey, endpoint: &Endpoint) -> String {
        format!("{}.{}", endpoint.label(), self.service_name(key))
    }

    fn addresses_of(&self, key: &ObjectKey) -> Vec<Ipv4Addr> {
        match self.services.get(key).map(|service| &service.kind) {
            Some(ServiceKind::Address(address)) => vec![*address],
            Some(ServiceKind::Headless) => self
                .endpoints(key)
                .map(|(_, endpoint)| endpoint.address)
                .collect(),
            _ => Vec::new(),
        }
    }

    fn index(&mut self, key: &ObjectKey) {
        for address in self.addresses_of(key) {
            self.reverse.entry(address).or_default().insert(key.clone());
        }
    }

    fn unindex(&mut self, key: &ObjectKey) {
        for address in self.addresses_of(key) {
            if let Some(owners) = self.reverse.get_mut(&address) {
                owners.remove(key);
                if owners.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
    }

    fn count_namespace(&mut self, key: &ObjectKey, up: bool) {
        let count = self.namespaces.entry(key.namespace.to_string()).or_default();
        *count = if up { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.namespaces.remove(key.namespace.as_str());
        }
    }
}

fn look_up_pod(labels: &[&str], kind: Kind) -> Outcome {
    match labels {
        [] | [_] => Outcome::Records(Vec::new()),
        [dashed, _namespace] => match dashed.replace('-', ".").parse() {
            Ok(address) => only(kind == Kind::A, || Data::A(address)),
            Err(_) => Outcome::NoSuchName,
        },
        _ => Outcome::NoSuchName,
    }
}

fn only(wanted: bool, data: impl FnOnce() -> Data) -> Outcome {
    Outcome::Records(if wanted { vec![data()] } else { Vec::new() })
}

fn is_protocol(label: &str) -> bool {
    matches!(label, "_tcp" | "_udp" | "_sctp")
}

/// What stands before the domain: nothing, or labels that end with a dot.
fn relative_to<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let relative = name.strip_suffix(domain)?;
    (relative.is_empty() || relative.ends_with('.')).then_some(relative)
}

/// The address that `4.3.2.1.in-addr.arpa` is about.
fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let [d, c, b, a] = Ipv4Addr::octets(&name.strip_suffix(".in-addr.arpa")?.parse().ok()?);
    Some(Ipv4Addr::new(a, b, c, d))
}
