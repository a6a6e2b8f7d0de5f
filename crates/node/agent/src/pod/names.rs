//! What a pod is called: its host name, and the domain that a subdomain puts it in. Pure.
//!
//! Source: `pkg/kubelet/kubelet_pods.go` (`GeneratePodHostNameAndDomain`), `pkg/kubelet/util` (`GetNodenameForKernel`).

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// The most that the kernel takes as a host name.
const LONGEST_HOST_NAME: usize = 64;
const LONGEST_LABEL: usize = 63;

/// A name that the kernel would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to construct FQDN from pod hostname and cluster domain, FQDN {0} is too long ({LONGEST_HOST_NAME} characters is the max, {len} characters requested)",
    len = .0.len()
)]
pub struct FqdnTooLong(String);

/// A pod's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNames {
    pub host: String,
    pub domain: Option<String>,
}

impl PodNames {
    pub fn of(pod: &Pod, spec: &PodSpec, cluster_domain: &str) -> Self {
        let set = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        if let Some(name) = set(&spec.hostname_override) {
            return Self {
                host: cut(&name),
                domain: None,
            };
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = set(&spec.hostname).or_else(|| pod.metadata.name.clone());
        Self {
            host: cut(&name.unwrap_or_default()),
            domain: set(&spec.subdomain).map(|sub| format!("{sub}.{namespace}.svc.{cluster_domain}")),
        }
    }

    /// The name that processes see.
    pub fn of_kernel(&self, spec: &PodSpec) -> Result<String, FqdnTooLong> {
        match &self.domain {
            Some(domain) if spec.set_hostname_as_fqdn == Some(true) => {
                let name = format!("{}.{domain}", self.host);
                if name.len() > LONGEST_HOST_NAME {
                    return Err(FqdnTooLong(name));
                }
                Ok(name)
            }
            _ => Ok(self.host.clone()),
        }
    }

    /// The names of the pod's address in its `/etc/hosts`.
    pub fn in_hosts(&self) -> String {
        match &self.domain {
            Some(domain) => format!("{}.{domain}\t{}", self.host, self.host),
            None => self.host.clone(),
        }
    }
}

fn cut(name: &str) -> String {
    let short: String = name.chars().take(LONGEST_LABEL).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str, spec: serde_json::Value) -> (PodNames, PodSpec) {
        let mut json = spec;
        json["containers"] = serde_json::json!([]);
        let spec: PodSpec = serde_json::from_value(json).unwrap();
        let mut pod = Pod::default();
        (pod.metadata.name, pod.metadata.namespace) = (Some(name.into()), Some("n".into()));
        (PodNames::of(&pod, &spec, "cluster.local"), spec)
    }

    #[test]
    fn a_name_is_the_pods_own_or_the_one_it_asks_for_and_is_cut() {
        assert_eq!(names("p", serde_json::json!({})).0.host, "p");
        assert_eq!(names("p", serde_json::json!({"hostname": "h"})).0.host, "h");
        let long = format!("{}-tail", "a".repeat(62));
        assert_eq!(names(&long, serde_json::json!({})).0.host, "a".repeat(62));
        let json = serde_json::json!({"hostnameOverride": "x.y", "hostname": "h", "subdomain": "s"});
        let (found, _) = names("p", json);
        assert_eq!((found.host.as_str(), found.domain), ("x.y", None));
    }

    #[test]
    fn a_full_name_is_set_only_where_it_is_asked_for_and_fits() {
        let of = |name: &str, fqdn: bool| {
            let (names, spec) = names(
                name,
                serde_json::json!({"subdomain": "s", "setHostnameAsFQDN": fqdn}),
            );
            names.of_kernel(&spec)
        };
        assert_eq!(of("p", false).unwrap(), "p");
        assert_eq!(of("p", true).unwrap(), "p.s.n.svc.cluster.local");
        let error = of(&"a".repeat(60), true).unwrap_err().to_string();
        assert!(
            error.ends_with("(64 characters is the max, 82 characters requested)"),
            "{error}"
        );
    }
}
