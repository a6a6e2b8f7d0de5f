//! What a cluster on this machine is: settled at the first start, kept beside its data.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cloudeck_net::Ipv4Cidr;
use serde::{Deserialize, Serialize};

use crate::cli::{Global, Up};

/// Where things of an instance lie.
#[derive(Debug, Clone)]
pub struct Places {
    pub instance: String,
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
}

impl Places {
    pub fn of(global: &Global) -> Result<Self> {
        let instance = &global.instance;
        let good = !instance.is_empty()
            && instance.len() <= 40
            && instance
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !good {
            bail!("the instance name {instance:?} must be 1 to 40 lower-case letters, digits and dashes");
        }
        let default_dir = if instance == "default" {
            "/var/lib/cloudeck".into()
        } else {
            format!("/var/lib/cloudeck-{instance}")
        };
        Ok(Self {
            instance: instance.clone(),
            data_dir: global
                .data_dir
                .clone()
                .unwrap_or_else(|| PathBuf::from(default_dir)),
            run_dir: PathBuf::from(format!("/run/cloudeck-{instance}")),
        })
    }

    pub fn lock(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    pub fn log(&self) -> PathBuf {
        self.data_dir.join("cloudeck.log")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join("kubeconfig")
    }

    pub fn images(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    pub fn network(&self) -> PathBuf {
        self.data_dir.join("network")
    }

    pub fn runtime(&self) -> cloudeck_runtime::RuntimeConfig {
        let mut config = cloudeck_runtime::RuntimeConfig::new(&self.instance, self.data_dir.join("runtime"));
        config.run_dir.clone_from(&self.run_dir);
        config
    }

    fn settings(&self) -> PathBuf {
        self.data_dir.join("settings.json")
    }
}

/// The settings of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub version: u32,
    pub node_name: String,
    pub port: u16,
    pub node_port: u16,
    pub cluster_cidr: String,
    pub service_cidr: String,
    pub cluster_domain: String,
    pub api_horizon_seconds: u64,
}

const VERSION: u32 = 1;

impl Settings {
    /// The stored settings with what the command line changes; those of a new cluster where none are stored.
    pub fn settle(places: &Places, up: &Up) -> Result<Self> {
        let stored = Self::load(places)?;
        let is_new = stored.is_none();
        let mut settings = match stored {
            Some(settings) => settings,
            None => Self::fresh()?,
        };
        settings.fix("--cluster-cidr", up.cluster_cidr.as_ref(), is_new, |s| {
            &mut s.cluster_cidr
        })?;
        settings.fix("--service-cidr", up.service_cidr.as_ref(), is_new, |s| {
            &mut s.service_cidr
        })?;
        settings.fix("--cluster-domain", up.cluster_domain.as_ref(), is_new, |s| {
            &mut s.cluster_domain
        })?;
        settings.fix("--node-name", up.node_name.as_ref(), is_new, |s| &mut s.node_name)?;
        settings.port = up.port.unwrap_or(settings.port);
        settings.node_port = up.node_port.unwrap_or(settings.node_port);
        settings.api_horizon_seconds = up
            .api_horizon
            .map_or(settings.api_horizon_seconds, |d| d.as_secs());
        settings.check()?;
        settings.store(places)?;
        Ok(settings)
    }

    /// The settings of a cluster that has been started before.
    pub fn load(places: &Places) -> Result<Option<Self>> {
        let path = places.settings();
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("read {}", path.display()))?,
        };
        let settings: Self =
            serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))?;
        if settings.version != VERSION {
            bail!(
                "{} was written by another version of cloudeck (format {})",
                path.display(),
                settings.version
            );
        }
        Ok(Some(settings))
    }

    /// The settings of a new cluster.
    pub fn fresh() -> Result<Self> {
        let host =
            std::fs::read_to_string("/proc/sys/kernel/hostname").context("read the machine's host name")?;
        let name: String = host
            .trim()
            .to_lowercase()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let name = name.trim_matches(['-', '.']).to_owned();
        Ok(Self {
            version: VERSION,
            node_name: if name.is_empty() { "node".to_owned() } else { name },
            port: 6443,
            node_port: 10250,
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            api_horizon_seconds: 300,
        })
    }

    fn fix(
        &mut self,
        flag: &str,
        wanted: Option<&String>,
        is_new: bool,
        field: impl Fn(&mut Self) -> &mut String,
    ) -> Result<()> {
        let Some(wanted) = wanted else { return Ok(()) };
        let current = field(self);
        if !is_new && current != wanted {
            bail!(
                "{flag} was fixed as {current} at the first start; `cloudeck down --purge` makes room for another cluster"
            );
        }
        current.clone_from(wanted);
        Ok(())
    }

    /// Reports all problems at once.
    fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        for (flag, text, longest) in [
            ("--cluster-cidr", &self.cluster_cidr, 24),
            ("--service-cidr", &self.service_cidr, 27),
        ] {
            match crate::cli::cidr(text) {
                None => problems.push(format!(
                    "{flag}: {text:?} is not an IPv4 range such as 10.0.0.0/16"
                )),
                Some((_, prefix)) if prefix > longest => {
                    problems.push(format!("{flag}: {text} is too small, at most /{longest}"));
                }
                Some(_) => {}
            }
        }
        for problem in cloudeck_machinery::names::dns1123_subdomain(&self.node_name) {
            problems.push(format!("--node-name: {:?}: {problem}", self.node_name));
        }
        for problem in cloudeck_machinery::names::dns1123_subdomain(&self.cluster_domain) {
            problems.push(format!("--cluster-domain: {:?}: {problem}", self.cluster_domain));
        }
        if problems.is_empty() {
            Ok(())
        } else {
            bail!("{}", problems.join("\n       "))
        }
    }

    fn store(&self, places: &Places) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("write the settings")?;
        write_atomically(&places.settings(), &text)
    }

    pub fn cluster_range(&self) -> Ipv4Cidr {
        range(&self.cluster_cidr)
    }

    pub fn service_range(&self) -> Ipv4Cidr {
        range(&self.service_cidr)
    }

    /// The pods of this node: the first /24 of the cluster's range.
    pub fn pod_range(&self) -> Ipv4Cidr {
        let (address, _) = crate::cli::cidr(&self.cluster_cidr).expect("checked when settled");
        range(&format!("{address}/24"))
    }

    /// The `n`-th address of the Service range.
    pub fn service_address(&self, n: u32) -> Ipv4Addr {
        let (address, _) = crate::cli::cidr(&self.service_cidr).expect("checked when settled");
        Ipv4Addr::from(u32::from(address).wrapping_add(n))
    }

    pub fn api_horizon(&self) -> Duration {
        Duration::from_secs(self.api_horizon_seconds)
    }
}

fn range(text: &str) -> Ipv4Cidr {
    text.parse().expect("checked when settled")
}

/// Replaces a file as a whole, durably, readable by its owner only.
pub fn write_atomically(path: &Path, text: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let next = path.with_extension("next");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&next, path)?;
        path.parent()
            .map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn settle(places: &Places, flags: &[&str]) -> Result<Settings> {
        let line = ["cloudeck", "up"].iter().chain(flags);
        let Command::Up(up) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not up")
        };
        Settings::settle(places, &up)
    }

    fn places(dir: &Path) -> Places {
        Places {
            instance: "t".into(),
            data_dir: dir.to_owned(),
            run_dir: dir.to_owned(),
        }
    }

    #[test]
    fn ranges_are_fixed_at_the_first_start_and_ports_may_change() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let first = settle(&places, &["--service-cidr", "10.97.0.0/16"]).unwrap();
        assert_eq!(first.service_address(10), Ipv4Addr::new(10, 97, 0, 10));
        assert_eq!(settle(&places, &["--port", "7443"]).unwrap().port, 7443);
        let error = settle(&places, &["--service-cidr", "10.98.0.0/16"]).unwrap_err();
        assert!(error.to_string().contains("fixed as 10.97.0.0/16"), "{error}");
    }

    #[test]
    fn all_problems_are_told_at_once_and_nothing_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let error = settle(&places, &["--cluster-cidr", "x", "--node-name", "A_b"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--cluster-cidr") && error.contains("--node-name"),
            "{error}"
        );
        assert!(Settings::load(&places).unwrap().is_none());
    }
}
