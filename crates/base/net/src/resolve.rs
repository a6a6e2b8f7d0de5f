//! Host names to addresses without NSS: `/etc/hosts`, then DNS as `/etc/resolv.conf` says.
//!
//! A static binary has no `getaddrinfo`. What it would do for `files dns` is done here: search domains and `ndots`, A and
//! AAAA together, servers in order with time-outs and attempts, TCP where an answer was cut. The files are read at
//! every lookup (they are small, and they change under a running daemon). No cache: callers resolve rarely, and a
//! cluster's own DNS has one.

mod config;
mod exchange;
mod hosts;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

pub use config::ResolvConf;
use exchange::{Answer, ExchangeError};
pub use hosts::Hosts;

/// Resolves names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Resolver {
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    Files { hosts: PathBuf, resolv_conf: PathBuf },
    Fixed { hosts: Hosts, conf: ResolvConf },
}

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("no such host {0:?}")]
    NoSuchHost(String),
    #[error("host name {0:?} is malformed")]
    Name(String),
    #[error("reading {path} failed")]
    Config {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no name server answered for {name:?} ({last})")]
    Unanswered { name: String, last: String },
}

impl Resolver {
    /// By the files of this machine.
    pub fn system() -> Self {
        Self::from_files("/etc/hosts".into(), config::SYSTEM_PATH.into())
    }

    /// By files elsewhere.
    pub fn from_files(hosts: PathBuf, resolv_conf: PathBuf) -> Self {
        Self {
            source: Arc::new(Source::Files { hosts, resolv_conf }),
        }
    }

    /// By values, for instance in tests.
    pub fn fixed(hosts: Hosts, conf: ResolvConf) -> Self {
        Self {
            source: Arc::new(Source::Fixed { hosts, conf }),
        }
    }

    /// The addresses of a host: literals as they are, IPv4 before IPv6, never an empty list.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let literal = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = literal.parse() {
            return Ok(vec![address]);
        }
        if is_invalid(host) {
            return Err(ResolveError::NoSuchHost(host.to_owned()));
        }
        let (hosts, conf) = self.read()?;
        if let Some(addresses) = hosts.lookup(host) {
            return Ok(addresses);
        }
        query(host, &conf).await
    }

    fn read(&self) -> Result<(Hosts, ResolvConf), ResolveError> {
        match &*self.source {
            Source::Fixed { hosts, conf } => Ok((hosts.clone(), conf.clone())),
            Source::Files { hosts, resolv_conf } => {
                let failed = |path: &PathBuf| {
                    let path = path.clone();
                    move |source| ResolveError::Config { path, source }
                };
                let hosts = Hosts::read(hosts).map_err(failed(hosts))?;
                let conf = ResolvConf::read(resolv_conf).map_err(failed(resolv_conf))?;
                Ok((hosts, conf))
            }
        }
    }
}

/// The domain that exists nowhere, and that no server is to be asked for (RFC 6761).
fn is_invalid(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("invalid")
}

async fn query(host: &str, conf: &ResolvConf) -> Result<Vec<IpAddr>, ResolveError> {
    let mut last = None;
    for candidate in conf.candidates(host) {
        let mut name = Name::from_ascii(&candidate).map_err(|_| ResolveError::Name(host.to_owned()))?;
        name.set_fqdn(true);
        let both = tokio::join!(
            exchange::query(conf, &name, RecordType::A),
            exchange::query(conf, &name, RecordType::AAAA),
        );
        let mut addresses = Vec::new();
        for answer in [both.0, both.1] {
            match answer {
                Ok(Answer::Addresses(found)) => addresses.extend(found),
                Ok(Answer::NoSuchName) => {}
                Err(error) => last = Some(error),
            }
        }
        if !addresses.is_empty() {
            return Ok(addresses);
        }
    }
    Err(match last {
        None => ResolveError::NoSuchHost(host.to_owned()),
        Some(error) => ResolveError::Unanswered {
            name: host.to_owned(),
            last: describe(&error),
        },
    })
}

fn describe(error: &ExchangeError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
