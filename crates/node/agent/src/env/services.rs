//! Variables that tell a container of the Services around it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT`, and Docker's link variables, of the namespace's Services (when `enabled`)
/// and always of `default/kubernetes`.
pub(crate) fn service_variables(
    services: &[Service],
    namespace: &str,
    enabled: bool,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for service in services {
        let meta = &service.metadata;
        let (name, own) = (
            meta.name.as_deref().unwrap_or_default(),
            meta.namespace.as_deref().unwrap_or_default(),
        );
        let master = own == "default" && name == "kubernetes";
        // The master's Service is seen everywhere unless the namespace has one of that name itself.
        let shadowed = master && namespace != "default" && enabled && has(services, namespace, name);
        if (own == namespace && enabled) || (master && !shadowed) {
            add(service, name, &mut variables);
        }
    }
    variables
}

fn has(services: &[Service], namespace: &str, name: &str) -> bool {
    let matches = |s: &&Service| {
        s.metadata.namespace.as_deref() == Some(namespace) && s.metadata.name.as_deref() == Some(name)
    };
    services.iter().any(|s| matches(&s))
}

fn add(service: &Service, name: &str, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let host = spec.cluster_ip.as_deref().unwrap_or_default();
    if host.is_empty() || host == "None" {
        return;
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = variable_name(name);
    let mut set = |name: String, value: String| variables.insert(name, value);
    set(format!("{prefix}_SERVICE_HOST"), host.to_owned());
    set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            set(
                format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name)),
                port.port.to_string(),
            );
        }
    }
    let joined = |address: &str, port: i32| {
        if address.contains(':') {
            format!("[{address}]:{port}")
        } else {
            format!("{address}:{port}")
        }
    };
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{}", joined(host, port.port));
        if index == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        set(link.clone(), url);
        set(format!("{link}_PROTO"), lower);
        set(format!("{link}_PORT"), port.port.to_string());
        set(format!("{link}_ADDR"), host.to_owned());
    }
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> Service {
        let port = ServicePort {
            name: Some("http".into()),
            port: 80,
            protocol: Some("TCP".into()),
            ..Default::default()
        };
        let mut service = Service::default();
        service.metadata.namespace = Some(namespace.into());
        service.metadata.name = Some(name.into());
        service.spec = Some(ServiceSpec {
            cluster_ip: Some(ip.into()),
            ports: Some(vec![port]),
            ..Default::default()
        });
        service
    }

    #[test]
    fn own_services_and_the_master_are_told() {
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("n", "my-db", "10.96.0.9"),
            service("m", "x", "10.96.0.7"),
        ];
        let variables = service_variables(&services, "n", true);
        assert_eq!(variables["MY_DB_SERVICE_HOST"], "10.96.0.9");
        assert_eq!(variables["MY_DB_SERVICE_PORT_HTTP"], "80");
        assert_eq!(variables["MY_DB_PORT_80_TCP"], "tcp://10.96.0.9:80");
        assert_eq!(variables["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
        assert!(!variables.contains_key("X_SERVICE_HOST"));
    }

    #[test]
    fn without_links_only_the_master_is_told_and_headless_services_never() {
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("n", "db", "10.96.0.9"),
            service("n", "h", "None"),
        ];
        let variables = service_variables(&services, "n", false);
        assert!(variables.keys().all(|name| name.starts_with("KUBERNETES_")));
        assert!(!service_variables(&services, "n", true).contains_key("H_SERVICE_HOST"));
    }
}
