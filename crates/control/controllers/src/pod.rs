//! What controllers know of a pod.

use std::borrow::Cow;
use std::sync::Arc;

use cloudeck_machinery::{Object, Time};
use compact_str::CompactString;
use serde::Deserialize;

use crate::view::Facts;

/// The controlling owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) kind: CompactString,
    pub(crate) name: CompactString,
    pub(crate) uid: CompactString,
}

/// In upstream's order of deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Pending,
    Unknown,
    Running,
    Succeeded,
    Failed,
}

/// A container's port as Services and slices may name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPort {
    pub(crate) name: CompactString,
    pub(crate) protocol: CompactString,
    pub(crate) number: i64,
}

/// The facts of a pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) object: Arc<Object>,
    pub(crate) owner: Option<Owner>,
    pub(crate) created: Option<Time>,
    pub(crate) deleting: bool,
    pub(crate) deletion_cost: i64,
    /// Empty while unscheduled.
    pub(crate) node: CompactString,
    pub(crate) hostname: CompactString,
    pub(crate) subdomain: CompactString,
    pub(crate) ports: Box<[NamedPort]>,
    pub(crate) phase: Phase,
    /// Failed because its node needed what it used.
    pub(crate) evicted: bool,
    pub(crate) ips: Box<[CompactString]>,
    pub(crate) ready: bool,
    /// When readiness last changed.
    pub(crate) ready_since: Option<Time>,
    /// The most restarts of one container: of ordinary ones, then of sidecars.
    pub(crate) restarts: (i64, i64),
}

impl Facts for Pod {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let json = object.json.clone();
        let wire: Wire<'_> = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
        Ok(wire.into_pod(object))
    }

    fn object(&self) -> &Arc<Object> {
        &self.object
    }

    fn controller_uid(&self) -> Option<&str> {
        self.owner.as_ref().map(|owner| owner.uid.as_str())
    }

    fn is_deleting(&self) -> bool {
        self.deleting
    }
}

impl Pod {
    /// Not finished and not being deleted.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_finished() && !self.deleting
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Succeeded | Phase::Failed)
    }

    pub(crate) fn uid(&self) -> &str {
        &self.object.uid
    }

    #[cfg(test)]
    pub(crate) fn name(&self) -> &str {
        &self.object.key.name
    }
}

/// The members that are read; the rest is skipped without being built.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(default)]
    #[serde(borrow)]
    spec: Spec<'a>,
    #[serde(default)]
    #[serde(borrow)]
    status: PodStatus<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    creation_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    deletion_timestamp: Option<Cow<'a, str>>,
    #[serde(default)]
    #[serde(borrow)]
    owner_references: Vec<OwnerReference<'a>>,
    #[serde(borrow)]
    annotations: Option<Annotations<'a>>,
}

#[derive(Deserialize)]
struct Annotations<'a> {
    #[serde(rename = "controller.kubernetes.io/pod-deletion-cost")]
    #[serde(borrow)]
    deletion_cost: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct OwnerReference<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(default)]
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec<'a> {
    #[serde(borrow)]
    node_name: Cow<'a, str>,
    #[serde(borrow)]
    hostname: Cow<'a, str>,
    #[serde(borrow)]
    subdomain: Cow<'a, str>,
    #[serde(borrow)]
    containers: Vec<Container<'a>>,
    #[serde(borrow)]
    init_containers: Vec<Container<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    restart_policy: Cow<'a, str>,
    #[serde(borrow)]
    ports: Vec<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    protocol: Cow<'a, str>,
    container_port: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus<'a> {
    #[serde(borrow)]
    phase: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(rename = "podIP")]
    #[serde(borrow)]
    pod_ip: Cow<'a, str>,
    #[serde(rename = "podIPs")]
    #[serde(borrow)]
    pod_ips: Vec<PodIp<'a>>,
    #[serde(borrow)]
    conditions: Vec<Condition<'a>>,
    #[serde(borrow)]
    container_statuses: Vec<ContainerStatus<'a>>,
    #[serde(borrow)]
    init_container_statuses: Vec<ContainerStatus<'a>>,
}

#[derive(Deserialize)]
struct PodIp<'a> {
    #[serde(borrow)]
    ip: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition<'a> {
    #[serde(rename = "type")]
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    last_transition_time: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus<'a> {
    #[serde(default)]
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    restart_count: i64,
}

impl Wire<'_> {
    fn into_pod(self, object: Arc<Object>) -> Pod {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let ready = status
            .conditions
            .iter()
            .find(|condition| condition.kind == "Ready");
        let restarts = restarts(&spec, &status);
        let cost = metadata
            .annotations
            .and_then(|annotations| annotations.deletion_cost);
        let sidecars = spec
            .init_containers
            .iter()
            .filter(|c| c.restart_policy == "Always");
        let ports = spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports);
        Pod {
            object,
            owner: metadata
                .owner_references
                .into_iter()
                .find(|owner| owner.controller)
                .map(|owner| Owner {
                    kind: owner.kind.into(),
                    name: owner.name.into(),
                    uid: owner.uid.into(),
                }),
            created: metadata
                .creation_timestamp
                .and_then(|text| Time::parse(&text).ok()),
            deleting: metadata.deletion_timestamp.is_some(),
            deletion_cost: cost.and_then(|cost| deletion_cost(&cost)).unwrap_or(0),
            ports: ports
                .filter(|port| !port.name.is_empty())
                .map(|port| NamedPort {
                    name: port.name.as_ref().into(),
                    protocol: port.protocol.as_ref().into(),
                    number: port.container_port,
                })
                .collect(),
            node: spec.node_name.into(),
            hostname: spec.hostname.into(),
            subdomain: spec.subdomain.into(),
            phase: phase(&status.phase),
            evicted: status.phase == "Failed" && status.reason == "Evicted",
            ready: ready.is_some_and(|condition| condition.status == "True"),
            ready_since: ready
                .and_then(|condition| condition.last_transition_time.as_deref())
                .and_then(|text| Time::parse(text).ok()),
            ips: addresses(&status.pod_ips, &status.pod_ip),
            restarts,
        }
    }
}

fn addresses(all: &[PodIp<'_>], only: &str) -> Box<[CompactString]> {
    if all.is_empty() && !only.is_empty() {
        return Box::new([only.into()]);
    }
    all.iter().map(|entry| entry.ip.as_ref().into()).collect()
}

fn phase(word: &str) -> Phase {
    match word {
        "Running" => Phase::Running,
        "Succeeded" => Phase::Succeeded,
        "Failed" => Phase::Failed,
        "Unknown" => Phase::Unknown,
        _ => Phase::Pending,
    }
}

/// Upstream takes what `strconv.ParseInt` takes, without a plus sign or leading zeros.
fn deletion_cost(text: &str) -> Option<i64> {
    let cost: i32 = text.parse().ok()?;
    (cost.to_string() == text).then(|| cost.into())
}

fn restarts(spec: &Spec<'_>, status: &PodStatus<'_>) -> (i64, i64) {
    let most = |statuses: &mut dyn Iterator<Item = &ContainerStatus<'_>>| {
        statuses.map(|status| status.restart_count).max().unwrap_or(0)
    };
    let is_sidecar = |name: &str| {
        spec.init_containers
            .iter()
            .any(|container| container.name == name && container.restart_policy == "Always")
    };
    let ordinary = most(&mut status.container_statuses.iter());
    let sidecars = most(
        &mut status
            .init_container_statuses
            .iter()
            .filter(|status| is_sidecar(&status.name)),
    );
    (ordinary, sidecars)
}

#[cfg(test)]
pub(crate) mod tests {
    use cloudeck_machinery::{Value, json};

    use super::*;

    /// A pod of the namespace `ns` out of JSON, with the name as its uid.
    pub(crate) fn pod(name: &str, text: &str) -> Arc<Pod> {
        Arc::new(Pod::read(object(name, text)).unwrap())
    }

    /// An object of the namespace `ns` out of JSON, with the name as its uid.
    pub(crate) fn object(name: &str, text: &str) -> Arc<Object> {
        let mut tree: Value = json::parse(text.as_bytes()).unwrap();
        for (field, value) in [
            ("name", name),
            ("namespace", "ns"),
            ("uid", name),
            ("resourceVersion", "1"),
        ] {
            if tree.at(&["metadata", field]).is_none() {
                tree.set_at(&["metadata", field], value);
            }
        }
        Arc::new(Object::from_json(json::to_vec(&tree).into()).unwrap())
    }

    #[test]
    fn addresses_ports_and_readiness_are_read() {
        let pod = pod(
            "p",
            r#"{"spec":{"containers":[{"name":"c","ports":[{"name":"http","containerPort":80,"protocol":"TCP"}]}]},
            "status":{"phase":"Running","podIP":"10.0.0.1","conditions":[{"type":"Ready","status":"True"}]}}"#,
        );
        assert!(pod.ready && pod.is_active());
        assert_eq!(pod.ips[0], "10.0.0.1");
        assert_eq!(pod.ports[0].number, 80);
    }

    #[test]
    fn a_deletion_cost_with_leading_zeros_does_not_count() {
        assert_eq!(deletion_cost("-5"), Some(-5));
        assert_eq!(deletion_cost("05"), None);
        assert_eq!(deletion_cost("+5"), None);
    }
}
