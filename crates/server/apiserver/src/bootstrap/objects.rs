//! Namespaces, priority classes, the service range, and the Service `kubernetes` with its endpoints.

use cloudeck_machinery::{GroupVersionResource, Value, value};

use crate::config::Config;

pub(super) const NAMESPACES: [&str; 4] = ["kube-system", "default", "kube-node-lease", "kube-public"];

pub(super) fn namespace(name: &str) -> Value {
    value!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": (name)}})
}

type Placed = (GroupVersionResource, &'static str, Value);

/// Everything else that is made once and then left to the cluster's owner.
pub(super) fn others(config: &Config) -> Vec<Placed> {
    let classes = GroupVersionResource::new("scheduling.k8s.io", "v1", "priorityclasses");
    let node_critical = "Used for system critical pods that must not be moved from their current node.";
    let cluster_critical = "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.";
    vec![
        (
            classes.clone(),
            "",
            priority_class("system-node-critical", 2_000_001_000, node_critical),
        ),
        (
            classes,
            "",
            priority_class("system-cluster-critical", 2_000_000_000, cluster_critical),
        ),
        (
            GroupVersionResource::new("networking.k8s.io", "v1", "servicecidrs"),
            "",
            service_cidr(config),
        ),
        (
            GroupVersionResource::new("", "v1", "services"),
            "default",
            kubernetes_service(config),
        ),
    ]
}

fn priority_class(name: &str, priority: i64, description: &str) -> Value {
    value!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": (name)},
        "value": (priority), "description": (description)
    })
}

fn service_cidr(config: &Config) -> Value {
    let range = format!("{}/{}", config.service_cidr.address, config.service_cidr.prefix);
    value!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [(range)]}
    })
}

/// The status of the default service range.
pub(super) fn ready_range(now: &str) -> Value {
    value!({"status": {"conditions": [{
        "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": (now),
        "message": "Kubernetes default Service CIDR is ready"
    }]}})
}

fn kubernetes_service(config: &Config) -> Value {
    let address = config.service_cidr.first().to_string();
    value!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": (address), "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": (i64::from(config.advertise_port))}]
        }
    })
}

/// Endpoints and EndpointSlice of Service `kubernetes`.
pub(super) fn kubernetes_endpoints(config: &Config) -> [(GroupVersionResource, Value); 2] {
    let (address, port) = (
        config.advertise_address.to_string(),
        i64::from(config.advertise_port),
    );
    let endpoints = value!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": (address.as_str())}],
            "ports": [{"name": "https", "port": (port), "protocol": "TCP"}]
        }]
    });
    let family = if config.advertise_address.is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    let slice = value!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": (family),
        "endpoints": [{"addresses": [(address.as_str())], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": (port), "protocol": "TCP"}]
    });
    [
        (GroupVersionResource::new("", "v1", "endpoints"), endpoints),
        (
            GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices"),
            slice,
        ),
    ]
}
