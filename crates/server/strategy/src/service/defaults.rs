//! Defaults of services, and what an update to another type drops.
//!
//! Source: `SetDefaults_Service`; `dropTypeDependentFields` in `pkg/registry/core/service/strategy.go`.

use cloudeck_machinery::{Value, value};

use super::{externally_accessible, kind_of};
use crate::fill;

pub(super) fn service(service: &mut Value) {
    let Some(spec) = fill::made(service, "spec") else {
        return;
    };
    affinity(spec);
    fill::text(spec, "type", "ClusterIP");
    for port in fill::each(spec, "ports") {
        fill::text(port, "protocol", "TCP");
        let open = match port.get("targetPort") {
            None | Some(Value::Null | Value::Int(0)) => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(_) => false,
        };
        if open && let Some(number) = port.int_at(&["port"]) {
            port.set_at(&["targetPort"], number);
        }
    }
    let kind = kind_of(service).to_owned();
    let accessible = externally_accessible(service);
    let Some(spec) = fill::member(service, "spec") else {
        return;
    };
    if accessible {
        fill::text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill::absent(spec, "internalTrafficPolicy", || "Cluster".into());
    }
    if kind == "LoadBalancer" {
        fill::absent(spec, "allocateLoadBalancerNodePorts", || true.into());
        address_mode(service);
    }
}

fn affinity(spec: &mut Value) {
    fill::text(spec, "sessionAffinity", "None");
    match spec.str_at(&["sessionAffinity"]) {
        Some("None") => {
            spec.remove_at(&["sessionAffinityConfig"]);
        }
        Some("ClientIP") => {
            let path = ["sessionAffinityConfig", "clientIP", "timeoutSeconds"];
            if spec.int_at(&path).is_none() {
                let config = value!({"clientIP": {"timeoutSeconds": 10800}});
                spec.set_at(&["sessionAffinityConfig"], config);
            }
        }
        _ => {}
    }
}

fn address_mode(service: &mut Value) {
    let balancer = fill::member(service, "status").and_then(|it| fill::member(it, "loadBalancer"));
    let Some(balancer) = balancer else { return };
    for ingress in fill::each(balancer, "ingress") {
        if !fill::is_empty(ingress.get("ip")) {
            fill::absent(ingress, "ipMode", || "VIP".into());
        }
    }
}

/// Wipes what no longer applies after a change of type, unless the client changed it in the same request: then
/// validation refuses.
pub(super) fn drop_unneeded(new: &mut Value, old: &Value) {
    let (to, from) = (kind_of(new).to_owned(), kind_of(old).to_owned());
    let needs_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if from != "ExternalName" && to == "ExternalName" {
        if same(new, old, "clusterIP") && same(new, old, "clusterIPs") {
            drop(new, "clusterIP");
            drop(new, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(new, old, field) {
                drop(new, field);
            }
        }
    }
    if needs_ports(&from) && !needs_ports(&to) && adds_no_node_port(new, old) {
        let spec = fill::member(new, "spec");
        for port in spec.into_iter().flat_map(|spec| fill::each(spec, "ports")) {
            port.remove_at(&["nodePort"]);
        }
    }
    let health = |service: &Value| {
        kind_of(service) == "LoadBalancer"
            && service.str_at(&["spec", "externalTrafficPolicy"]) == Some("Local")
    };
    if health(old) && !health(new) && same(new, old, "healthCheckNodePort") {
        drop(new, "healthCheckNodePort");
    }
    if from == "LoadBalancer" && to != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(new, old, field) {
                drop(new, field);
            }
        }
    }
    if externally_accessible(old) && !externally_accessible(new) && same(new, old, "externalTrafficPolicy") {
        drop(new, "externalTrafficPolicy");
    }
    if to != "LoadBalancer" && new.at(&["status", "loadBalancer"]).is_some() {
        new.set_at(&["status", "loadBalancer"], Value::object());
    }
}

fn same(new: &Value, old: &Value, field: &str) -> bool {
    new.at(&["spec", field]) == old.at(&["spec", field])
}

fn drop(service: &mut Value, field: &str) {
    service.remove_at(&["spec", field]);
}

fn adds_no_node_port(new: &Value, old: &Value) -> bool {
    let ports = |service: &Value| -> Vec<i64> {
        let ports = service.items_at(&["spec", "ports"]).iter();
        ports
            .filter_map(|port| port.int_at(&["nodePort"]))
            .filter(|port| *port != 0)
            .collect()
    };
    let before = ports(old);
    ports(new).iter().all(|port| before.contains(port))
}
