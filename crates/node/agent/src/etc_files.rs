//! The files under `/etc` that the agent manages in every container: `hosts`, `hostname`, `resolv.conf`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::pod::names::PodNames;

/// `/etc/hosts` of a pod with a network of its own.
pub(crate) fn hosts(names: &PodNames, spec: &PodSpec, pod_ip: Option<IpAddr>) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    if let Some(ip) = pod_ip {
        writeln!(text, "{ip}\t{}", names.in_hosts()).expect("writing to a string cannot fail");
    }
    text + &host_aliases(spec)
}

/// `/etc/hosts` of a pod in the host's network: the host's own, and the aliases.
pub(crate) fn host_network_hosts(host_file: &str, spec: &PodSpec) -> String {
    format!(
        "# Kubernetes-managed hosts file (host network).\n{host_file}{}",
        host_aliases(spec)
    )
}

fn host_aliases(spec: &PodSpec) -> String {
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        writeln!(text, "{}\t{names}", alias.ip).expect("writing to a string cannot fail");
    }
    text
}

/// What a pod's resolver asks, and of whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// Limits of glibc that upstream keeps to.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

impl Resolver {
    /// Reads a `resolv.conf`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                Some("search" | "domain") => resolver.searches = words.map(str::to_owned).collect(),
                Some("options") => resolver.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        resolver
    }

    /// A `resolv.conf`.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            writeln!(text, "search {}", self.searches.join(" ")).expect("writing to a string cannot fail");
        }
        for server in &self.servers {
            writeln!(text, "nameserver {server}").expect("writing to a string cannot fail");
        }
        if !self.options.is_empty() {
            writeln!(text, "options {}", self.options.join(" ")).expect("writing to a string cannot fail");
        }
        text
    }
}

/// The pod's resolver, by its DNS policy and configuration.
pub(crate) fn resolver(
    pod: &Pod,
    spec: &PodSpec,
    host: &Resolver,
    dns: Ipv4Addr,
    cluster_domain: &str,
) -> Resolver {
    let host_network = spec.host_network == Some(true);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let mut result = match policy {
        "None" => Resolver::default(),
        "Default" => host.clone(),
        "ClusterFirst" if host_network => host.clone(),
        _ => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let own = [
                format!("{namespace}.svc.{cluster_domain}"),
                format!("svc.{cluster_domain}"),
                cluster_domain.to_owned(),
            ];
            Resolver {
                servers: vec![dns.to_string()],
                searches: own.into_iter().chain(host.searches.iter().cloned()).collect(),
                options: vec!["ndots:5".to_owned()],
            }
        }
    };
    if let Some(config) = &spec.dns_config {
        result
            .servers
            .extend(config.nameservers.iter().flatten().cloned());
        result.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            result
                .options
                .retain(|other| other.split(':').next() != Some(name));
            let value = option.value.as_deref();
            result
                .options
                .push(value.map_or_else(|| name.to_owned(), |value| format!("{name}:{value}")));
        }
    }
    dedup(&mut result.servers);
    dedup(&mut result.searches);
    result.servers.truncate(MAX_SERVERS);
    result.searches.truncate(MAX_SEARCHES);
    result
}

fn dedup(items: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    items.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodDNSConfigOption};

    use super::*;

    fn pod() -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some("p".into());
        pod.metadata.namespace = Some("n".into());
        pod
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let mut spec = PodSpec {
            subdomain: Some("sub".into()),
            ..PodSpec::default()
        };
        spec.host_aliases = Some(vec![HostAlias {
            ip: "1.2.3.4".into(),
            hostnames: Some(vec!["a".into(), "b".into()]),
        }]);
        let names = PodNames::of(&pod(), &spec, "cluster.local");
        let text = hosts(&names, &spec, Some("10.0.0.7".parse().unwrap()));
        assert!(
            text.contains("10.0.0.7\tp.sub.n.svc.cluster.local\tp\n"),
            "{text}"
        );
        assert!(text.ends_with("1.2.3.4\ta\tb\n"), "{text}");
    }

    #[test]
    fn cluster_first_searches_the_cluster_before_the_host() {
        let host = Resolver::parse("nameserver 9.9.9.9\nsearch corp\noptions ndots:1\n");
        let spec = PodSpec::default();
        let found = resolver(
            &pod(),
            &spec,
            &host,
            Ipv4Addr::new(10, 96, 0, 10),
            "cluster.local",
        );
        let wanted = "search n.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(found.render(), wanted);
    }

    #[test]
    fn default_and_none_policies_and_own_options() {
        let host = Resolver::parse("nameserver 9.9.9.9\n");
        let option = PodDNSConfigOption {
            name: Some("ndots".into()),
            value: Some("2".into()),
        };
        let config = PodDNSConfig {
            nameservers: Some(vec!["1.1.1.1".into()]),
            options: Some(vec![option]),
            searches: None,
        };
        let spec = PodSpec {
            dns_policy: Some("None".into()),
            dns_config: Some(config),
            ..PodSpec::default()
        };
        let found = resolver(&pod(), &spec, &host, Ipv4Addr::LOCALHOST, "cluster.local");
        assert_eq!(found.render(), "nameserver 1.1.1.1\noptions ndots:2\n");
        let spec = PodSpec {
            dns_policy: Some("Default".into()),
            ..PodSpec::default()
        };
        assert_eq!(
            resolver(&pod(), &spec, &host, Ipv4Addr::LOCALHOST, "x").servers,
            ["9.9.9.9"]
        );
    }
}
