//! A container's environment: service variables, `envFrom`, `env`, field and resource references, `$(VAR)` expansion.
//!
//! Source: `pkg/kubelet/kubelet_pods.go` (`makeEnvironmentVariables`), `pkg/kubelet/envvars`.

mod services;

pub(crate) use services::service_variables;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod, Service};

use crate::node::Node;
use crate::volumes::{FieldError, SetUpError, field, read_config_map, read_secret, resource_field};

/// Why an environment could not be made: the text of `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    #[error(transparent)]
    Source(#[from] SetUpError),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    KeyMissing {
        key: String,
        kind: &'static str,
        namespace: String,
        name: String,
    },
    #[error("environment variable {0}: fileKeyRef is not supported")]
    FileKeys(String),
}

/// An ordered set of variables: a later one of the same name takes the earlier one's place.
#[derive(Default)]
struct Variables {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }

    fn into_pairs(self) -> Vec<String> {
        let Self { order, values } = self;
        order
            .into_iter()
            .map(|name| format!("{name}={}", values.get(&name).map_or("", String::as_str)))
            .collect()
    }
}

/// The container's whole environment, `NAME=value`, without what its image brings.
pub(crate) async fn resolve(
    node: &Node,
    pod: &Pod,
    container: &Container,
    pod_ip: &str,
) -> Result<Vec<String>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut result = Variables::default();
    for source in container.env_from.iter().flatten() {
        add_source(node, namespace, source, &mut result).await?;
    }
    let services = service_environment(node, pod, namespace);
    for variable in container.env.iter().flatten() {
        let value = value_of(
            node, pod, container, variable, pod_ip, namespace, &result, &services,
        )
        .await?;
        if let Some(value) = value {
            result.set(&variable.name, value);
        }
    }
    // Service variables stand below everything the pod says itself.
    for (name, value) in services {
        if !result.values.contains_key(&name) {
            result.set(&name, value);
        }
    }
    Ok(result.into_pairs())
}

fn service_environment(node: &Node, pod: &Pod, namespace: &str) -> BTreeMap<String, String> {
    let enabled = pod
        .spec
        .as_ref()
        .and_then(|s| s.enable_service_links)
        .unwrap_or(true);
    let decoded: Vec<Service> = node
        .services
        .list()
        .iter()
        // Services of other namespaces are not told, but the API server's.
        .filter(|object| *object.key.namespace == *namespace || object.key.namespace == "default")
        .filter_map(|object| cloudeck_objects::service(&object.json).ok())
        .collect();
    service_variables(&decoded, namespace, enabled)
}

async fn add_source(
    node: &Node,
    namespace: &str,
    source: &EnvFromSource,
    result: &mut Variables,
) -> Result<(), EnvError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut data = BTreeMap::new();
    if let Some(reference) = &source.config_map_ref {
        let map = read_config_map(node, namespace, &reference.name, reference.optional == Some(true)).await?;
        data = map.and_then(|m| m.data).unwrap_or_default();
    } else if let Some(reference) = &source.secret_ref {
        let secret = read_secret(node, namespace, &reference.name, reference.optional == Some(true)).await?;
        let bytes = secret.and_then(|s| s.data).unwrap_or_default();
        data = bytes
            .into_iter()
            .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
            .collect();
    }
    // Every key of these objects may be a name.
    for (key, value) in data {
        result.set(&format!("{prefix}{key}"), value);
    }
    Ok(())
}

#[allow(
    clippy::too_many_arguments,
    reason = "one variable sees all of the pod's surroundings"
)]
async fn value_of(
    node: &Node,
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    pod_ip: &str,
    namespace: &str,
    known: &Variables,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, EnvError> {
    let Some(from) = &variable.value_from else {
        let lookup = |name: &str| known.values.get(name).or_else(|| services.get(name)).cloned();
        return Ok(Some(expand(
            variable.value.as_deref().unwrap_or_default(),
            &lookup,
        )));
    };
    let host_ip = node.address().to_string();
    let facts = node.facts(&host_ip, pod_ip);
    if let Some(reference) = &from.field_ref {
        return Ok(Some(field(pod, &reference.field_path, &facts)?));
    }
    if let Some(selector) = &from.resource_field_ref {
        return Ok(Some(resource_field(container, selector, &facts)?));
    }
    if let Some(reference) = &from.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let map = read_config_map(node, namespace, &reference.name, optional).await?;
        let value = map
            .and_then(|m| m.data)
            .and_then(|mut data| data.remove(&reference.key));
        return required(
            value,
            optional,
            &reference.key,
            "ConfigMap",
            namespace,
            &reference.name,
        );
    }
    if let Some(reference) = &from.secret_key_ref {
        let optional = reference.optional == Some(true);
        let secret = read_secret(node, namespace, &reference.name, optional).await?;
        let value = secret
            .and_then(|s| s.data)
            .and_then(|mut data| data.remove(&reference.key));
        let value = value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        return required(
            value,
            optional,
            &reference.key,
            "Secret",
            namespace,
            &reference.name,
        );
    }
    if from.file_key_ref.is_some() {
        return Err(EnvError::FileKeys(variable.name.clone()));
    }
    Ok(None)
}

fn required(
    value: Option<String>,
    optional: bool,
    key: &str,
    kind: &'static str,
    namespace: &str,
    name: &str,
) -> Result<Option<String>, EnvError> {
    match value {
        None if !optional => {
            let (key, namespace, name) = (key.to_owned(), namespace.to_owned(), name.to_owned());
            Err(EnvError::KeyMissing {
                key,
                kind,
                namespace,
                name,
            })
        }
        value => Ok(value),
    }
}

/// Expands `$(NAME)`; `$$` is a dollar sign, unknown names stay as they stand.
///
/// Source: `third_party/forked/golang/expansion`.
pub(crate) fn expand(text: &str, lookup: &impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            if let Some(value) = lookup(name) {
                out.push_str(&value);
            } else {
                out.push_str("$(");
                out.push_str(name);
                out.push(')');
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_and_escapes_stay() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, wanted) in [
            ("$(A)-$(B)", "1-$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("x$(A)$(A)y", "x11y"),
        ] {
            assert_eq!(expand(text, &lookup), wanted, "{text}");
        }
    }

    #[test]
    fn a_later_variable_takes_the_earlier_ones_place() {
        let mut variables = Variables::default();
        variables.set("A", "1".into());
        variables.set("B", "2".into());
        variables.set("A", "3".into());
        assert_eq!(variables.into_pairs(), ["A=3", "B=2"]);
    }
}
