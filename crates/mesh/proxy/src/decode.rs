//! From API objects to views.

use std::net::Ipv4Addr;

use cloudeck_machinery::{Object, Value};

use crate::view::{
    EndpointPortView, EndpointSliceView, EndpointView, Protocol, ServicePortView, ServiceView, TrafficPolicy,
};

#[cfg(test)]
mod tests;

const ANOTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const AFFINITY_SECONDS_DEFAULT: u32 = 10_800;

/// What matters of a Service; `None` when the proxy has nothing to do with it: headless, a mere name, IPv6 only, or
/// meant for another proxy.
pub fn service_view(object: &Object) -> Option<ServiceView> {
    if object.label(ANOTHER_PROXY).is_some() {
        return None;
    }
    let service = object.tree();
    let kind = service.str_at(&["spec", "type"]).unwrap_or("ClusterIP");
    let cluster_ip = cluster_ip(&service)?;
    if kind == "ExternalName" {
        return None;
    }
    let balanced =
        kind == "LoadBalancer" && service.items_at(&["spec", "loadBalancerSourceRanges"]).is_empty();
    Some(ServiceView {
        cluster_ip: Some(cluster_ip),
        external_ips: service
            .items_at(&["spec", "externalIPs"])
            .iter()
            .filter_map(address)
            .collect(),
        load_balancer_ips: if balanced {
            load_balancer_ips(&service)
        } else {
            Vec::new()
        },
        ports: service
            .items_at(&["spec", "ports"])
            .iter()
            .filter_map(service_port)
            .collect(),
        internal_policy: policy(&service, "internalTrafficPolicy"),
        external_policy: policy(&service, "externalTrafficPolicy"),
        affinity_seconds: affinity(&service),
    })
}

/// What matters of an EndpointSlice; `None` when it belongs to no Service of ours or holds other addresses than IPv4.
pub fn endpoint_slice_view(object: &Object) -> Option<EndpointSliceView> {
    if object.label(ANOTHER_PROXY).is_some() || object.label(HEADLESS).is_some() {
        return None;
    }
    let service = object.label(SERVICE_NAME)?.to_owned();
    let slice = object.tree();
    if slice.str_at(&["addressType"]) != Some("IPv4") {
        return None;
    }
    let ports = slice
        .items_at(&["ports"])
        .iter()
        .filter_map(endpoint_port)
        .collect();
    let endpoints = slice
        .items_at(&["endpoints"])
        .iter()
        .filter_map(endpoint)
        .collect();
    Some(EndpointSliceView {
        service,
        ports,
        endpoints,
    })
}

fn cluster_ip(service: &Value) -> Option<Ipv4Addr> {
    let all = service.items_at(&["spec", "clusterIPs"]).iter().find_map(address);
    all.or_else(|| service.at(&["spec", "clusterIP"]).and_then(address))
}

fn load_balancer_ips(service: &Value) -> Vec<Ipv4Addr> {
    let ingress = service.items_at(&["status", "loadBalancer", "ingress"]).iter();
    let direct = ingress.filter(|ingress| ingress.str_at(&["ipMode"]) != Some("Proxy"));
    direct
        .filter_map(|ingress| ingress.get("ip").and_then(address))
        .collect()
}

fn service_port(port: &Value) -> Option<ServicePortView> {
    let node_port = port
        .int_at(&["nodePort"])
        .and_then(|number| u16::try_from(number).ok());
    Some(ServicePortView {
        name: name(port),
        protocol: protocol(port)?,
        port: number(port)?,
        node_port: node_port.filter(|number| *number != 0),
    })
}

fn endpoint_port(port: &Value) -> Option<EndpointPortView> {
    Some(EndpointPortView {
        name: name(port),
        protocol: protocol(port)?,
        port: number(port)?,
    })
}

fn endpoint(endpoint: &Value) -> Option<EndpointView> {
    let condition = |name| endpoint.bool_at(&["conditions", name]);
    let ready = condition("ready").unwrap_or(true);
    Some(EndpointView {
        address: endpoint.items_at(&["addresses"]).first().and_then(address)?,
        ready,
        serving: condition("serving").unwrap_or(ready),
        terminating: condition("terminating").unwrap_or(false),
        node: endpoint.str_at(&["nodeName"]).map(str::to_owned),
    })
}

fn policy(service: &Value, field: &str) -> TrafficPolicy {
    match service.str_at(&["spec", field]) {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    }
}

fn affinity(service: &Value) -> Option<u32> {
    if service.str_at(&["spec", "sessionAffinity"]) != Some("ClientIP") {
        return None;
    }
    let seconds = service.int_at(&["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
    Some(
        seconds
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(AFFINITY_SECONDS_DEFAULT),
    )
}

fn name(port: &Value) -> String {
    port.str_at(&["name"]).unwrap_or_default().to_owned()
}

fn protocol(port: &Value) -> Option<Protocol> {
    Protocol::from_name(port.str_at(&["protocol"]).unwrap_or("TCP"))
}

fn number(port: &Value) -> Option<u16> {
    u16::try_from(port.int_at(&["port"])?).ok()
}

fn address(value: &Value) -> Option<Ipv4Addr> {
    value.as_str()?.parse().ok()
}
