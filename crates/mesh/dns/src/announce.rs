//! Making a server the endpoint of the Service `kube-dns`, which has no selector.

use std::net::SocketAddr;

use cloudeck_client::Client;
use cloudeck_machinery::{GroupVersionResource, Status, Value, json};

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
const MANAGER: &str = "cloudeck-dns";

/// Applies the node's EndpointSlice for `kube-dns`; doing it again changes nothing.
pub async fn announce(client: &Client, node_name: &str, address: SocketAddr) -> Result<(), Status> {
    let resource = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
    let slice = endpoint_slice(node_name, address);
    client.apply(&resource, MANAGER, "", &slice).await.map(|_| ())
}

/// The ports are named as those of the Service in bootstrap are: `dns` and `dns-tcp`.
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
}
