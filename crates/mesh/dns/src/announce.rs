//! Making a server the endpoint of the Service `kube-dns`, which has no selector.

use std::net::{Ipv4Addr, SocketAddr};

use cloudeck_client::Client;
use cloudeck_machinery::{GroupVersionResource, Status, Value, json};

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
const MANAGER: &str = "cloudeck-dns";

/// Applies the Service `kube-dns` and the node's EndpointSlice for it; doing it again changes nothing.
///
/// `address` may differ from start to start: clients only know the Service's.
pub async fn announce(
    client: &Client,
    node_name: &str,
    service_ip: Ipv4Addr,
    address: SocketAddr,
) -> Result<(), Status> {
    let services = GroupVersionResource::new("", "v1", "services");
    client.apply(&services, MANAGER, "", &service(service_ip)).await?;
    let slices = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
    client
        .apply(&slices, MANAGER, "", &endpoint_slice(node_name, address))
        .await?;
    Ok(())
}

fn service(ip: Ipv4Addr) -> Value {
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"Service",
            "metadata":{{"name":"{SERVICE}","namespace":"{NAMESPACE}",
              "labels":{{"k8s-app":"{SERVICE}","kubernetes.io/cluster-service":"true","kubernetes.io/name":"CoreDNS"}}}},
            "spec":{{"type":"ClusterIP","clusterIP":"{ip}",
              "ports":[{{"name":"dns","protocol":"UDP","port":53}},{{"name":"dns-tcp","protocol":"TCP","port":53}}]}}}}"#
    );
    json::parse(text.as_bytes()).expect("an address is plain text")
}

/// The ports are named as those of the Service are.
fn endpoint_slice(node_name: &str, address: SocketAddr) -> Value {
    let (ip, port) = (address.ip(), address.port());
    let text = format!(
        r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",
            "metadata":{{"name":"{SERVICE}-{node_name}","namespace":"{NAMESPACE}",
              "labels":{{"kubernetes.io/service-name":"{SERVICE}","endpointslice.kubernetes.io/managed-by":"{MANAGER}"}}}},
            "addressType":"IPv4",
            "ports":[{{"name":"dns","protocol":"UDP","port":{port}}},{{"name":"dns-tcp","protocol":"TCP","port":{port}}}],
            "endpoints":[{{"addresses":["{ip}"],"conditions":{{"ready":true}},"nodeName":"{node_name}"}}]}}"#
    );
    json::parse(text.as_bytes()).expect("node names are DNS names, which JSON takes as they are")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slice_belongs_to_the_service_and_has_both_ports() {
        let slice = endpoint_slice("node-1", "192.0.2.2:10053".parse().unwrap());
        assert_eq!(slice.str_at(&["metadata", "name"]), Some("kube-dns-node-1"));
        let labels = slice.at(&["metadata", "labels"]).unwrap();
        assert_eq!(
            labels.get("kubernetes.io/service-name").and_then(Value::as_str),
            Some("kube-dns")
        );
        let ports: Vec<_> = slice
            .items_at(&["ports"])
            .iter()
            .map(|p| (p.str_at(&["name"]), p.int_at(&["port"])))
            .collect();
        assert_eq!(
            ports,
            [(Some("dns"), Some(10053)), (Some("dns-tcp"), Some(10053))]
        );
    }

    #[test]
    fn the_service_has_the_ports_that_the_slice_names() {
        let service = service([10, 96, 0, 10].into());
        assert_eq!(service.str_at(&["spec", "clusterIP"]), Some("10.96.0.10"));
        let names = |value: &Value, path: &[&str]| -> Vec<String> {
            let ports = value.items_at(path).iter();
            ports
                .filter_map(|port| port.str_at(&["name"]))
                .map(str::to_owned)
                .collect()
        };
        let slice = endpoint_slice("n", "192.0.2.2:1".parse().unwrap());
        assert_eq!(names(&service, &["spec", "ports"]), names(&slice, &["ports"]));
    }
}
