//! Plug-ins that look at the node as such: its name, its being cordoned, its ports.

use k8s_openapi::api::core::v1::Taint;

use super::taints::tolerates;
use super::{ClusterEvent, Plugin, Unfit};
use crate::model::{NodeInfo, PodInfo};

/// A cordoned node takes only pods that tolerate it.
#[derive(Debug)]
pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Unfit> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        if node.unschedulable && !pod.tolerations.iter().any(|t| tolerates(t, &taint)) {
            return Err(Unfit::unresolvable("node(s) were unschedulable"));
        }
        Ok(())
    }

    fn hints(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeTaintsChanged]
    }
}

/// A pod that names its node runs nowhere else.
#[derive(Debug)]
pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Unfit> {
        if pod.node_name.is_empty() || pod.node_name == node.name {
            return Ok(());
        }
        Err(Unfit::unresolvable(
            "node(s) didn't match the requested node name",
        ))
    }

    fn hints(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded]
    }
}

/// Constraints that this scheduler does not know are never passed over in silence.
#[derive(Debug)]
pub(super) struct Supported;

impl Plugin for Supported {
    fn name(&self) -> &'static str {
        "Supported"
    }

    fn filter(&self, pod: &PodInfo, _: &NodeInfo) -> Result<(), Unfit> {
        pod.unsupported.map_or(Ok(()), |what| {
            Err(Unfit::unresolvable(format!(
                "node(s) cannot be chosen: {what} are not supported"
            )))
        })
    }

    fn hints(&self) -> &'static [ClusterEvent] {
        &[]
    }
}

/// Two pods cannot have one port of a node.
#[derive(Debug)]
pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Unfit> {
        const ANY: &str = "0.0.0.0";
        let taken = pod.host_ports.iter().any(|(protocol, address, port)| {
            node.host_ports.keys().any(|(other_protocol, other, other_port)| {
                protocol == other_protocol
                    && port == other_port
                    && (address == other || address == ANY || other == ANY)
            })
        });
        if taken {
            Err(Unfit::resolvable(
                "node(s) didn't have free ports for the requested pod ports",
            ))
        } else {
            Ok(())
        }
    }

    fn hints(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::AssignedPodGone]
    }
}
