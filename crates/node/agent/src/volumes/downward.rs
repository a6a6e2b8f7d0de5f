//! The downward API: a pod's own facts as values and files.
//!
//! Source: `pkg/fieldpath`, `pkg/volume/downwardapi`, `pkg/api/v1/resource` (`ExtractContainerResourceValue`).

use std::fmt::Write as _;

use cloudeck_machinery::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, Pod, ResourceFieldSelector};

use super::SetUpError;
use super::payload::{DEFAULT_MODE, Payload};
use crate::node::Node;

/// A reference to something a pod does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error("unsupported fieldPath: {path}")]
    Unsupported { path: String },
    #[error("unsupported container resource : {resource}")]
    UnsupportedResource { resource: String },
    #[error("container {name} not found")]
    NoContainer { name: String },
}

/// What a field reference may look at beside the pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeFacts<'a> {
    pub(crate) host_ip: &'a str,
    pub(crate) pod_ip: &'a str,
    pub(crate) allocatable_cpu_milli: i64,
    pub(crate) allocatable_memory_bytes: i64,
    pub(crate) allocatable_storage_bytes: i64,
}

/// The value of `fieldRef.fieldPath`.
pub(crate) fn field(pod: &Pod, path: &str, node: &NodeFacts<'_>) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => {
                return Err(FieldError::Unsupported {
                    path: path.to_owned(),
                });
            }
        };
        return Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => format_map(meta.labels.as_ref()),
        "metadata.annotations" => format_map(meta.annotations.as_ref()),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.hostIP" | "status.hostIPs" => node.host_ip.to_owned(),
        "status.podIP" | "status.podIPs" => node.pod_ip.to_owned(),
        _ => {
            return Err(FieldError::Unsupported {
                path: path.to_owned(),
            });
        }
    })
}

/// `metadata.labels['a/b']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?;
    Some((map, key.trim_matches('\'')))
}

/// One `key="value"` a line, sorted, quoted as Go's `%q`.
fn format_map(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (key, value) in map.into_iter().flatten() {
        if !out.is_empty() {
            out.push('\n');
        }
        let quoted = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
            .replace('\t', "\\t")
            .replace('\r', "\\r");
        write!(out, "{key}=\"{quoted}\"").expect("writing to a string cannot fail");
    }
    out
}

/// The value of a `resourceFieldRef` for `container`.
pub(crate) fn resource_field(
    container: &Container,
    selector: &ResourceFieldSelector,
    node: &NodeFacts<'_>,
) -> Result<String, FieldError> {
    let unsupported = || FieldError::UnsupportedResource {
        resource: selector.resource.clone(),
    };
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let limits = resources
        .and_then(|r| r.limits.as_ref())
        .and_then(|l| l.get(name));
    let requests = resources
        .and_then(|r| r.requests.as_ref())
        .and_then(|r| r.get(name));
    let amount = match kind {
        "limits" => limits,
        "requests" => requests,
        _ => return Err(unsupported()),
    };
    let milli = match amount.map(|quantity| quantity.0.parse::<Quantity>()) {
        Some(Ok(quantity)) => quantity.milli_value(),
        // Without a limit the node's allocatable is the limit.
        _ if kind == "limits" && name == "cpu" => node.allocatable_cpu_milli,
        _ if kind == "limits" && name == "memory" => node.allocatable_memory_bytes.saturating_mul(1000),
        _ if kind == "limits" && name == "ephemeral-storage" => {
            node.allocatable_storage_bytes.saturating_mul(1000)
        }
        _ => 0,
    };
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|d| d.0.parse::<Quantity>().ok())
        .map(Quantity::milli_value);
    let divisor = divisor.filter(|milli| *milli > 0).unwrap_or(1000);
    // Rounded up, as upstream does.
    Ok((milli / divisor + i64::from(milli % divisor != 0)).to_string())
}

/// The files of a downward API volume.
pub(super) fn payload(
    node: &Node,
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: Option<i32>,
) -> Result<Payload, SetUpError> {
    let host_ip = node.address().to_string();
    let facts = node.facts(&host_ip, "");
    let mut payload = Payload::default();
    for item in items {
        let content = if let Some(reference) = &item.field_ref {
            field(pod, &reference.field_path, &facts)?
        } else if let Some(selector) = &item.resource_field_ref {
            let name = selector.container_name.clone().unwrap_or_default();
            let container = pod
                .spec
                .as_ref()
                .into_iter()
                .flat_map(crate::pod::decide::all_containers)
                .find(|c| c.name == name);
            resource_field(
                container.ok_or(FieldError::NoContainer { name })?,
                selector,
                &facts,
            )?
        } else {
            String::new()
        };
        payload.add(
            &item.path,
            content.into_bytes(),
            item.mode.or(default_mode).unwrap_or(DEFAULT_MODE),
        );
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

    use super::*;

    const FACTS: NodeFacts<'_> = NodeFacts {
        host_ip: "10.0.0.1",
        pod_ip: "10.244.0.5",
        allocatable_cpu_milli: 2000,
        allocatable_memory_bytes: 1 << 30,
        allocatable_storage_bytes: 1 << 40,
    };

    #[test]
    fn fields_and_subscripts_are_read() {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        pod.metadata.labels = Some(BTreeMap::from([
            ("a/b".into(), "x\"y".into()),
            ("c".into(), "d".into()),
        ]));
        assert_eq!(field(&pod, "metadata.name", &FACTS).unwrap(), "p");
        assert_eq!(field(&pod, "metadata.labels['a/b']", &FACTS).unwrap(), "x\"y");
        assert_eq!(
            field(&pod, "metadata.labels", &FACTS).unwrap(),
            "a/b=\"x\\\"y\"\nc=\"d\""
        );
        assert_eq!(field(&pod, "status.podIP", &FACTS).unwrap(), "10.244.0.5");
        assert!(field(&pod, "spec.tolerations", &FACTS).is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let limits = BTreeMap::from([("cpu".to_owned(), ApiQuantity("1500m".into()))]);
        let resources = k8s_openapi::api::core::v1::ResourceRequirements {
            limits: Some(limits),
            ..Default::default()
        };
        let container = Container {
            resources: Some(resources),
            ..Container::default()
        };
        let selector = |resource: &str, divisor: &str| ResourceFieldSelector {
            resource: resource.into(),
            divisor: (!divisor.is_empty()).then(|| ApiQuantity(divisor.into())),
            container_name: None,
        };
        assert_eq!(
            resource_field(&container, &selector("limits.cpu", ""), &FACTS).unwrap(),
            "2"
        );
        assert_eq!(
            resource_field(&container, &selector("limits.cpu", "1m"), &FACTS).unwrap(),
            "1500"
        );
        assert_eq!(
            resource_field(&container, &selector("limits.memory", "1Mi"), &FACTS).unwrap(),
            "1024"
        );
        assert_eq!(
            resource_field(&container, &selector("limits.ephemeral-storage", "1Gi"), &FACTS).unwrap(),
            "1024"
        );
        assert_eq!(
            resource_field(&container, &selector("requests.cpu", ""), &FACTS).unwrap(),
            "0"
        );
    }
}
