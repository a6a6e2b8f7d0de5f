//! What the server is told at its start.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cloudeck_pki::TokenKey;
use cloudeck_schema::openapi::Documents;

use crate::clock::Clock;

/// Plain values; the composition root reads them from wherever it likes.
#[derive(Clone)]
pub struct Config {
    pub clock: Clock,
    /// Where the API server is reached by others, for the endpoints of Service `kubernetes`.
    pub advertise_address: IpAddr,
    pub advertise_port: u16,
    /// Cluster addresses of Services, e.g. 10.96.0.0/16.
    pub service_cidr: Cidr,
    /// Pod addresses; every node gets a /24 of it.
    pub pod_cidr: Cidr,
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
    /// The issuer of service-account tokens, and their default audience.
    pub issuer: String,
    /// How long old revisions can be read exactly: continue tokens live as long.
    pub api_horizon: Duration,
    /// Signs those tokens.
    pub token_key: Arc<TokenKey>,
    /// What `/openapi/v3` serves; without descriptions unless somebody brings them.
    pub openapi: Arc<Documents>,
}

/// An IPv4 range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: Ipv4Addr,
    pub prefix: u8,
}

/// The text is no IPv4 range.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 range")]
pub struct ParseCidrError(String);

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/').and_then(|(address, prefix)| {
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
            Some((address.parse().ok()?, prefix))
        });
        let (address, prefix) = parts.ok_or_else(|| ParseCidrError(text.to_owned()))?;
        Ok(Self { address, prefix })
    }
}

impl Config {
    /// Upstream's defaults, on the machine's clock.
    pub fn new(advertise_address: IpAddr, advertise_port: u16, token_key: Arc<TokenKey>) -> Self {
        Self {
            clock: Clock::system(),
            advertise_address,
            advertise_port,
            service_cidr: Cidr {
                address: Ipv4Addr::new(10, 96, 0, 0),
                prefix: 16,
            },
            pod_cidr: Cidr {
                address: Ipv4Addr::new(10, 244, 0, 0),
                prefix: 16,
            },
            node_ports: 30000..=32767,
            cluster_domain: "cluster.local".into(),
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            api_horizon: Duration::from_mins(5),
            token_key,
            openapi: Arc::default(),
        }
    }
}
