//! What of a Service and an EndpointSlice matters to names.

use std::net::Ipv4Addr;

use cloudeck_machinery::{Object, Value};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What a Service's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// Its own address.
    Address(Ipv4Addr),
    /// Its endpoints' addresses.
    Headless,
    /// Another name.
    Alias(String),
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// What its name leads to.
    pub kind: ServiceKind,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// A port of a Service or of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name, which may be empty.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Its number.
    pub number: u16,
}

/// A part of a Service's endpoints: those that are ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceRecord {
    /// Their ports.
    pub ports: Vec<Port>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name within the Service, if it has one.
    pub hostname: Option<String>,
}

impl Endpoint {
    pub(super) fn label(&self) -> String {
        let dashed = || self.address.to_string().replace('.', "-");
        self.hostname
            .as_ref()
            .map_or_else(dashed, |hostname| hostname.to_ascii_lowercase())
    }
}

impl ServiceRecord {
    /// `None` when the Service has no name that leads anywhere: it has only IPv6 addresses, or none yet.
    pub fn read(object: &Object) -> Option<Self> {
        let service = object.tree();
        let text = |field| service.str_at(&["spec", field]);
        let ports = service
            .items_at(&["spec", "ports"])
            .iter()
            .filter_map(port)
            .collect();
        let kind = match (text("type"), text("clusterIP")) {
            (Some("ExternalName"), _) => {
                ServiceKind::Alias(text("externalName")?.trim_end_matches('.').to_owned())
            }
            (_, Some("None")) => ServiceKind::Headless,
            (_, own) => {
                let all = service.items_at(&["spec", "clusterIPs"]).iter().find_map(address);
                ServiceKind::Address(all.or_else(|| own?.parse().ok())?)
            }
        };
        Some(Self { kind, ports })
    }
}

impl SliceRecord {
    /// The Service's name and the slice; `None` when it belongs to none or holds other addresses than IPv4.
    pub fn read(object: &Object) -> Option<(String, Self)> {
        let service = object.label(SERVICE_NAME)?.to_owned();
        let slice = object.tree();
        if slice.str_at(&["addressType"]) != Some("IPv4") {
            return None;
        }
        let ports = slice.items_at(&["ports"]).iter().filter_map(port).collect();
        let endpoints = slice
            .items_at(&["endpoints"])
            .iter()
            .filter_map(endpoint)
            .collect();
        Some((service, Self { ports, endpoints }))
    }
}

fn endpoint(endpoint: &Value) -> Option<Endpoint> {
    if endpoint.bool_at(&["conditions", "ready"]) == Some(false) {
        return None;
    }
    let hostname = endpoint
        .str_at(&["hostname"])
        .filter(|hostname| !hostname.is_empty());
    Some(Endpoint {
        address: endpoint.items_at(&["addresses"]).first().and_then(address)?,
        hostname: hostname.map(str::to_owned),
    })
}

fn port(port: &Value) -> Option<Port> {
    Some(Port {
        name: port.str_at(&["name"]).unwrap_or_default().to_owned(),
        protocol: port.str_at(&["protocol"]).unwrap_or("TCP").to_owned(),
        number: u16::try_from(port.int_at(&["port"])?).ok()?,
    })
}

fn address(value: &Value) -> Option<Ipv4Addr> {
    value.as_str()?.parse().ok()
}
