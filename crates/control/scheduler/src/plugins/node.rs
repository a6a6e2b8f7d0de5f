//! Plug-ins that look at the node as such: its name, its being cordoned, its ports.

use k8s_openapi::api::core::v1::Taint;

use super::taints::tolerates;
use super::{ClusterEvent, NodeFilter, Plugin, Unfit};
use crate::cache::Cache;
use crate::model::{HostPort, NodeInfo, PodInfo};

/// A cordoned node takes only pods that tolerate it.
#[derive(Debug)]
pub(super) struct NodeUnschedulable;

struct NotCordoned;

impl NodeFilter for NotCordoned {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        if node.unschedulable {
            Err(Unfit::unresolvable("node(s) were unschedulable"))
        } else {
            Ok(())
        }
    }
}

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".into(),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        let tolerated = pod.tolerations.iter().any(|t| tolerates(t, &taint));
        (!tolerated).then_some(Box::new(NotCordoned) as _)
    }

    fn is_turned_by(&self, _: &PodInfo, event: ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::Node { before, now: Some(now) }
            if !now.unschedulable && before.is_none_or(|before| before.unschedulable))
    }
}

/// A pod that names its node runs nowhere else.
#[derive(Debug)]
pub(super) struct NodeName;

struct Named<'a>(&'a str);

impl NodeFilter for Named<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        if node.name == self.0 {
            return Ok(());
        }
        Err(Unfit::unresolvable(
            "node(s) didn't match the requested node name",
        ))
    }
}

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        (!pod.node_name.is_empty()).then(|| Box::new(Named(&pod.node_name)) as _)
    }

    fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::Node { before: None, now: Some(now) } if now.name == pod.node_name)
    }
}

/// Constraints that this scheduler does not know are never passed over in silence.
#[derive(Debug)]
pub(super) struct Supported;

struct Never(&'static str);

impl NodeFilter for Never {
    fn check(&self, _: &NodeInfo) -> Result<(), Unfit> {
        Err(Unfit::unresolvable(format!(
            "node(s) cannot be chosen: {} are not supported",
            self.0
        )))
    }
}

impl Plugin for Supported {
    fn name(&self) -> &'static str {
        "Supported"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        pod.unsupported.map(|what| Box::new(Never(what)) as _)
    }
}

/// Two pods cannot have one port of a node.
#[derive(Debug)]
pub(super) struct NodePorts;

struct FreePorts<'a>(&'a [HostPort]);

impl NodeFilter for FreePorts<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        let taken = |wanted: &HostPort| node.host_ports.keys().any(|held| collide(wanted, held));
        if self.0.iter().any(taken) {
            return Err(Unfit::resolvable(
                "node(s) didn't have free ports for the requested pod ports",
            ));
        }
        Ok(())
    }
}

fn collide(a: &HostPort, b: &HostPort) -> bool {
    const ANY: &str = "0.0.0.0";
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || a.1 == ANY || b.1 == ANY)
}

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        (!pod.host_ports.is_empty()).then(|| Box::new(FreePorts(&pod.host_ports)) as _)
    }

    fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::Node { before, now } => before.is_none() && now.is_some(),
            ClusterEvent::Pod {
                before: Some(gone),
                now: None,
            } => pod
                .host_ports
                .iter()
                .any(|wanted| gone.host_ports.iter().any(|held| collide(wanted, held))),
            ClusterEvent::Pod { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{node, pod};

    fn with_port(port: &str) -> PodInfo {
        pod(&format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","ports":[{{"containerPort":1,{port}}}]}}]}}}}"#
        ))
    }

    #[track_caller]
    fn check(held: &str, wanted: &str, free: bool) {
        let cache = Cache::default();
        let mut info = node("n", "{}");
        info.add_pod(&with_port(held).into());
        let wanting = with_port(wanted);
        let fits = NodePorts
            .filter(&wanting, &cache)
            .is_none_or(|filter| filter.check(&info).is_ok());
        assert_eq!(fits, free);
        let gone = ClusterEvent::Pod {
            before: Some(&with_port(held)),
            now: None,
        };
        assert_eq!(NodePorts.is_turned_by(&wanting, gone), !free);
    }

    #[test]
    fn ports_of_a_node_are_given_once_per_protocol_and_address() {
        let port = r#""hostPort":80"#;
        check(port, port, false);
        check(port, r#""hostPort":81"#, true);
        check(port, r#""hostPort":80,"protocol":"UDP""#, true);
        check(port, r#""hostPort":80,"hostIP":"10.0.0.1""#, false);
        check(
            r#""hostPort":80,"hostIP":"10.0.0.2""#,
            r#""hostPort":80,"hostIP":"10.0.0.1""#,
            true,
        );
    }
}
