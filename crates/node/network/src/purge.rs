//! Removing every trace of an instance from the host, with no daemon alive.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloudeck_net::nftables::Batch;
use cloudeck_net::route::LOOPBACK_INDEX;
use cloudeck_net::{Ipv4Cidr, NetNamespace, NetlinkError, RouteSocket};
use rustix::io::Errno;

use crate::attach;
use crate::error::{NetworkStartError, PurgeError};
use crate::host::{self, GATEWAY, IP_FORWARD, Place, ROUTE_PROTOCOL};
use crate::name::InstanceNames;
use crate::network;
use crate::record::{Record, RecordError};

/// Removes the instance's links, routes, addresses and tables, and puts back the settings that it changed.
/// What is gone already is no error. An instance name that cannot be one has left nothing.
pub async fn purge(
    instance: &str,
    state_dir: PathBuf,
    namespace: Option<Arc<NetNamespace>>,
) -> Result<(), PurgeError> {
    let Some(names) = InstanceNames::new(instance) else {
        return Ok(());
    };
    network::blocking(move || purge_blocking(&names, &state_dir, &Place(namespace))).await
}

fn purge_blocking(names: &InstanceNames, state_dir: &Path, place: &Place) -> Result<(), PurgeError> {
    let mut socket = place.route_socket().map_err(netlink("open a route socket"))?;
    remove_links(&mut socket, names).map_err(netlink("remove the pods' links"))?;
    let Found { lived, alone } = remove_table(place, names).map_err(netlink("remove the pods' table"))?;
    let record = Record::load(state_dir)?;
    let recorded = record
        .loopback_routes
        .iter()
        .filter_map(|range| range.parse::<Ipv4Cidr>().ok());
    let mut ranges: BTreeSet<Ipv4Cidr> = recorded.collect();
    if lived && alone {
        ranges.extend(orphans(&mut socket).map_err(netlink("list routes"))?);
    }
    for range in ranges {
        gone(socket.delete_route(&host::service_route(range, None))).map_err(netlink("remove a route"))?;
    }
    // Another instance on this host may stand on the same settings: the last one puts them back.
    let shared = |address: &Ipv4Addr| *address == GATEWAY && !alone;
    let mut addresses: BTreeSet<Ipv4Addr> = record.loopback_addresses.iter().copied().collect();
    if lived {
        addresses.insert(GATEWAY);
    }
    for address in addresses.iter().filter(|address| !shared(address)) {
        gone(socket.delete_address(LOOPBACK_INDEX, *address, 32)).map_err(netlink("remove an address"))?;
    }
    for (setting, value) in record
        .sysctls
        .iter()
        .filter(|(setting, _)| alone || *setting != IP_FORWARD)
    {
        place.write_sysctl(setting, value)?;
    }
    Ok(Record::remove(state_dir)?)
}

fn remove_links(socket: &mut RouteSocket, names: &InstanceNames) -> Result<(), NetlinkError> {
    let prefix = names.link_prefix();
    let ours = socket
        .links()?
        .into_iter()
        .filter(|link| link.name.starts_with(&prefix));
    let ours: Vec<u32> = ours.map(|link| link.index).collect();
    attach::mark_for_removal(socket, ours, names.removal_group())?;
    attach::remove_marked(socket, names.removal_group())
}

/// Ranges that some instance led to the loopback device, for when the record was deleted before the purge.
fn orphans(socket: &mut RouteSocket) -> Result<Vec<Ipv4Cidr>, NetlinkError> {
    let routes = socket.routes()?.into_iter();
    let ours = routes.filter(|r| r.link_index == Some(LOOPBACK_INDEX) && r.protocol == ROUTE_PROTOCOL);
    Ok(ours.map(|route| route.destination).collect())
}

struct Found {
    /// The instance was there: what looks like its own is its own, even without a record.
    lived: bool,
    /// No other instance is on this host.
    alone: bool,
}

fn remove_table(place: &Place, names: &InstanceNames) -> Result<Found, NetlinkError> {
    let mut nft = place.nft_socket()?;
    let tables = nft.tables()?;
    let lived = tables.contains(&names.pod_table());
    if lived {
        let mut batch = Batch::new();
        batch.delete_table(&names.pod_table());
        gone(nft.commit(batch))?;
    }
    let alone = !tables.iter().any(|table| names.is_foreign_pod_table(table));
    Ok(Found { lived, alone })
}

fn gone(removed: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    let absent = [Errno::NOENT, Errno::SRCH, Errno::NODEV, Errno::ADDRNOTAVAIL];
    match removed {
        Err(error) if error.refusal().is_some_and(|errno| absent.contains(&errno)) => Ok(()),
        removed => removed,
    }
}

fn netlink(action: &'static str) -> impl FnOnce(NetlinkError) -> PurgeError {
    move |source| PurgeError::Netlink { action, source }
}

impl From<RecordError> for PurgeError {
    fn from(error: RecordError) -> Self {
        Self::File {
            action: error.action,
            path: error.path,
            source: error.source,
        }
    }
}

impl From<NetworkStartError> for PurgeError {
    fn from(error: NetworkStartError) -> Self {
        match error {
            NetworkStartError::Namespace(source) => Self::Namespace(source),
            NetworkStartError::File { action, path, source } => Self::File { action, path, source },
            NetworkStartError::Netlink { action, source } => Self::Netlink { action, source },
            other => Self::File {
                action: "restore settings",
                path: PathBuf::from("/proc/sys"),
                source: std::io::Error::other(other),
            },
        }
    }
}
