//! What the endpoint controllers know of a Service, and which pods and ports it means.

use std::sync::Arc;

use cloudeck_machinery::{LabelSelector, Map, Object, Value, value};

use crate::pod::Pod;
use crate::view::Facts;

/// A Service, read once per revision.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) object: Arc<Object>,
    pub(crate) tree: Value,
    /// `None` for a Service whose endpoints are somebody else's business.
    pub(crate) selector: Option<LabelSelector>,
    pub(crate) publishes_not_ready: bool,
    pub(crate) deleting: bool,
}

impl Facts for Service {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let tree = object.tree();
        let labels = tree.at(&["spec", "selector"]).and_then(Value::as_object);
        let selects = labels.is_some() && tree.str_at(&["spec", "type"]) != Some("ExternalName");
        Ok(Self {
            selector: selects.then(|| selector(labels)),
            publishes_not_ready: tree.bool_at(&["spec", "publishNotReadyAddresses"]) == Some(true),
            deleting: tree.at(&["metadata", "deletionTimestamp"]).is_some(),
            object,
            tree,
        })
    }

    fn object(&self) -> &Arc<Object> {
        &self.object
    }

    fn is_deleting(&self) -> bool {
        self.deleting
    }
}

/// An empty map of labels selects nothing.
fn selector(labels: Option<&Map>) -> LabelSelector {
    match labels {
        Some(labels) if !labels.is_empty() => LabelSelector::from_map(Some(labels)),
        _ => LabelSelector::nothing(),
    }
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    pub(crate) fn of(address: &str) -> Self {
        if address.contains(':') {
            Self::Ipv6
        } else {
            Self::Ipv4
        }
    }
}

impl Service {
    pub(crate) fn name(&self) -> &str {
        &self.object.key.name
    }

    pub(crate) fn is_headless(&self) -> bool {
        self.tree.str_at(&["spec", "clusterIP"]) == Some("None")
    }

    /// Whether there is an address that clients connect to.
    pub(crate) fn has_address(&self) -> bool {
        let address = self.tree.str_at(&["spec", "clusterIP"]).unwrap_or_default();
        !address.is_empty() && address != "None"
    }

    pub(crate) fn families(&self) -> Vec<Family> {
        let told = self.tree.items_at(&["spec", "ipFamilies"]);
        let told: Vec<Family> = told
            .iter()
            .filter_map(Value::as_str)
            .map(|word| {
                if word == "IPv6" {
                    Family::Ipv6
                } else {
                    Family::Ipv4
                }
            })
            .collect();
        if told.is_empty() {
            let address = self.tree.str_at(&["spec", "clusterIP"]).unwrap_or_default();
            return vec![Family::of(address)];
        }
        told
    }

    pub(crate) fn selects(&self, pod: &Pod) -> bool {
        self.selector
            .as_ref()
            .is_some_and(|selector| selector.matches(&*pod.object))
    }

    /// The Service's ports on this pod, as a slice and an Endpoints object hold them. A named port that the pod does
    /// not have is left out.
    pub(crate) fn ports_on(&self, pod: &Pod) -> Vec<Value> {
        let ports = self.tree.items_at(&["spec", "ports"]);
        ports.iter().filter_map(|port| port_on(port, pod)).collect()
    }

    /// Whether the pod's host name is a name under this Service.
    pub(crate) fn names(&self, pod: &Pod) -> bool {
        !pod.hostname.is_empty() && pod.subdomain == self.name()
    }
}

fn port_on(port: &Value, pod: &Pod) -> Option<Value> {
    let protocol = port.str_at(&["protocol"]).unwrap_or("TCP");
    let number = match port.at(&["targetPort"]) {
        Some(Value::Int(0)) | None => port.int_at(&["port"])?,
        Some(Value::Int(number)) => *number,
        Some(name) => {
            let name = name.as_str()?;
            let named = pod
                .ports
                .iter()
                .find(|it| it.name == name && it.protocol == protocol)?;
            named.number
        }
    };
    let name = port.str_at(&["name"]).unwrap_or_default();
    let mut found = value!({"name": (name), "port": (number), "protocol": (protocol)});
    if let Some(application) = port.str_at(&["appProtocol"]) {
        found.set_at(&["appProtocol"], application);
    }
    Some(found)
}
