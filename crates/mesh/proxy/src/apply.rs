//! Installing what the model says.

use cloudeck_net::NetlinkError;
use cloudeck_net::conntrack::{ConntrackSocket, Tracked};
use cloudeck_net::nftables::{Batch, Element, NftSocket};
use rustix::io::Errno;

use crate::config::ProxyConfig;
use crate::error::{ProxyApplyError, ProxyStartError};
use crate::model::{Delta, Entry, StaleAffinity};
use crate::rules::{self, Table};
use crate::view::Protocol;

/// A client's stickiness may end while it is being removed; then look again, but not for ever.
const UNSTICK_ATTEMPTS: usize = 4;
/// The bytes of the client's address at the front of an affinity key.
const CLIENT_BYTES: usize = 4;

/// The table in the kernel. Its calls block, for less than a millisecond unless thousands of Services change.
#[derive(Debug)]
pub(crate) struct Installer {
    table: Table,
    nft: NftSocket,
    conntrack: ConntrackSocket,
}

impl Installer {
    pub(crate) fn open(config: &ProxyConfig) -> Result<Self, ProxyStartError> {
        let open = || -> Result<Self, NetlinkError> {
            let (nft, conntrack) = match &config.namespace {
                None => (NftSocket::open()?, ConntrackSocket::open()?),
                Some(namespace) => (
                    NftSocket::open_in(namespace)?,
                    ConntrackSocket::open_in(namespace)?,
                ),
            };
            Ok(Self {
                table: Table::new(config),
                nft,
                conntrack,
            })
        };
        open().map_err(ProxyStartError::Socket)
    }

    /// Installs the whole table in place of what is there.
    pub(crate) fn replace(&mut self, entries: &[Entry]) -> Result<(), ProxyApplyError> {
        let batch = self.table.replace(entries);
        let table = self.table.name.clone();
        self.nft
            .commit(batch)
            .map_err(|source| ProxyApplyError::Table { table, source })
    }

    /// Whether the table is there, whatever is in it.
    pub(crate) fn is_installed(&mut self) -> Result<bool, ProxyApplyError> {
        let table = self.table.name.clone();
        let tables = self.nft.tables();
        let tables = tables.map_err(|source| ProxyApplyError::Look {
            table: table.clone(),
            source,
        })?;
        Ok(tables.contains(&table))
    }

    /// Installs a difference. After an error the table is as it was before.
    pub(crate) fn change(&mut self, delta: &Delta) -> Result<(), ProxyApplyError> {
        let batch = self.table.change(delta);
        let table = self.table.name.clone();
        self.nft
            .commit(batch)
            .map_err(|source| ProxyApplyError::Change { table, source })
    }

    /// Lets go of clients of endpoints that are gone, after the change that removed these.
    pub(crate) fn clean(&mut self, delta: &Delta) -> Result<(), ProxyApplyError> {
        let stale: Vec<_> = delta.stale_affinity.iter().copied().collect();
        if !stale.is_empty() {
            self.unstick(&stale).map_err(ProxyApplyError::Unstick)?;
        }
        let stale: Vec<_> = delta.stale_connections.iter().copied().collect();
        self.conntrack.forget(&stale).map_err(ProxyApplyError::Forget)
    }

    /// The datagram connections that the kernel tracks.
    pub(crate) fn tracked_datagrams(&mut self) -> Result<Vec<Tracked>, ProxyApplyError> {
        self.conntrack
            .list(Protocol::Udp.number())
            .map_err(ProxyApplyError::Forget)
    }

    fn unstick(&mut self, stale: &[StaleAffinity]) -> Result<(), NetlinkError> {
        let patterns: Vec<_> = stale
            .iter()
            .map(|stale| rules::affinity_pattern(stale.frontend, stale.endpoint.address, stale.endpoint.port))
            .collect();
        let mut outcome = Ok(());
        for _ in 0..UNSTICK_ATTEMPTS {
            let listed = self.nft.elements(&self.table.name, rules::AFFINITY)?;
            let matches = |key: &[u8], value: &[u8]| {
                let key = key.get(CLIENT_BYTES..).unwrap_or_default();
                patterns
                    .iter()
                    .any(|(frontend, endpoint)| key.starts_with(frontend) && value == endpoint)
            };
            let found = listed
                .into_iter()
                .filter(|element| matches(&element.key, &element.value));
            let elements: Vec<_> = found.map(|element| Element::from_key(element.key)).collect();
            let mut batch = Batch::new();
            batch.delete_elements(&self.table.name, rules::AFFINITY, &elements);
            outcome = self.nft.commit(batch);
            match &outcome {
                Err(error) if error.refusal() == Some(Errno::NOENT) => {}
                _ => break,
            }
        }
        outcome
    }
}
