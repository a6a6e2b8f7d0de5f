//! What the host needs before the first pod: an address, forwarding, routes, masquerade.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use cloudeck_net::netlink::Requests;
use cloudeck_net::nftables::{BaseChain, Batch, Chain, ChainKind, Hook, NftSocket, Rule, Verdict};
use cloudeck_net::route::{LOOPBACK_INDEX, LinkChange, Route, RouteSpec, RouteTarget};
use cloudeck_net::{Ipv4Cidr, NamespaceError, NetNamespace, NetlinkError, RouteSocket};
use rustix::io::Errno;

use crate::config::NetworkConfig;
use crate::error::NetworkStartError;
use crate::name::InstanceNames;
use crate::record::{Record, RecordError};

/// Where pods send what they have no other route for. Link-local: it never leaves the machine.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The address of a node without a usable one, from the range for tests between networks (RFC 2544): routed nowhere.
const LONELY_NODE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Routes of ours are marked with this number (`ip route` shows `proto 202`).
pub(crate) const ROUTE_PROTOCOL: u8 = 202;
pub(crate) const IP_FORWARD: &str = "net/ipv4/ip_forward";
/// An empty chain of this name in an instance's table says that the host did not forward before.
const FORWARDING_MARK: &str = "forwarding-was-off";
const SOURCE_TRANSLATION: i32 = 100;
const BEFORE_TRACKING: i32 = -300;
const MTU_WITHOUT_UPLINK: u32 = 1500;

/// The address of this machine as a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAddress {
    /// The address.
    pub ip: Ipv4Addr,
    /// Whether the machine had none, so that this one was put on its loopback device.
    pub made: bool,
}

/// The namespace that all this happens in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(pub(crate) Option<Arc<NetNamespace>>);

impl Place {
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        match &self.0 {
            None => Ok(action()),
            Some(namespace) => namespace.run(action),
        }
    }

    pub(crate) fn route_socket(&self) -> Result<RouteSocket, NetlinkError> {
        self.0
            .as_ref()
            .map_or_else(RouteSocket::open, |namespace| RouteSocket::open_in(namespace))
    }

    pub(crate) fn nft_socket(&self) -> Result<NftSocket, NetlinkError> {
        self.0
            .as_ref()
            .map_or_else(NftSocket::open, |namespace| NftSocket::open_in(namespace))
    }

    pub(crate) fn read_sysctl(&self, setting: &str) -> Result<String, NetworkStartError> {
        let path = Path::new("/proc/sys").join(setting);
        let read = self.run(|| std::fs::read_to_string(&path))?;
        let text = read.map_err(|source| NetworkStartError::File {
            action: "read",
            path: path.clone(),
            source,
        })?;
        Ok(text.trim().to_owned())
    }

    pub(crate) fn write_sysctl(&self, setting: &str, value: &str) -> Result<(), NetworkStartError> {
        let path = Path::new("/proc/sys").join(setting);
        self.run(|| std::fs::write(&path, value))?
            .map_err(|source| NetworkStartError::File {
                action: "write",
                path: path.clone(),
                source,
            })
    }
}

/// Finds this machine's address: the default route's source, else any usable one, else one that is put on `lo`
/// (and removed by [`crate::purge`]).
///
/// # Blocking
/// A few milliseconds at most.
pub fn ensure_node_address(
    state_dir: &Path,
    namespace: Option<Arc<NetNamespace>>,
) -> Result<NodeAddress, NetworkStartError> {
    let place = Place(namespace);
    let mut socket = place.route_socket().map_err(netlink("open a route socket"))?;
    let found = socket
        .host_address()
        .map_err(netlink("look for the host's address"))?;
    if let Some(ip) = found {
        return Ok(NodeAddress { ip, made: false });
    }
    let mut record = Record::load(state_dir)?;
    note_loopback_address(&mut record, state_dir, LONELY_NODE)?;
    socket
        .change_link(
            LOOPBACK_INDEX,
            &LinkChange {
                up: true,
                ..LinkChange::default()
            },
        )
        .map_err(netlink("set the loopback device up"))?;
    add_loopback_address(&mut socket, LONELY_NODE, libc::RT_SCOPE_UNIVERSE)?;
    Ok(NodeAddress {
        ip: LONELY_NODE,
        made: true,
    })
}

/// Prepares the host and returns the size of the largest packet that pods may send.
pub(crate) fn prepare(
    place: &Place,
    config: &NetworkConfig,
    names: &InstanceNames,
) -> Result<u32, NetworkStartError> {
    let mut socket = place.route_socket().map_err(netlink("open a route socket"))?;
    let mut record = Record::load(&config.state_dir)?;
    let uplink = socket.uplink().map_err(netlink("look for the uplink"))?;
    socket
        .change_link(
            LOOPBACK_INDEX,
            &LinkChange {
                up: true,
                ..LinkChange::default()
            },
        )
        .map_err(netlink("set the loopback device up"))?;
    note_loopback_address(&mut record, &config.state_dir, GATEWAY)?;
    // Of link scope, so that the kernel never chooses it as a source.
    add_loopback_address(&mut socket, GATEWAY, libc::RT_SCOPE_LINK)?;
    route_services(&mut socket, &mut record, config)?;
    note_forwarding(place, &mut record, config, names)?;
    // The table tells other instances what the record tells us: it comes before the change.
    install_table(place, config, names)?;
    place.write_sysctl(IP_FORWARD, "1")?;
    Ok(uplink.map_or(MTU_WITHOUT_UPLINK, |uplink| uplink.link.mtu_bytes))
}

/// Connections to Services need some route, else they fail before the proxy's rules see them.
fn route_services(
    socket: &mut RouteSocket,
    record: &mut Record,
    config: &NetworkConfig,
) -> Result<(), NetworkStartError> {
    let range = config.service_cidr;
    let text = range.to_string();
    if !record.loopback_routes.contains(&text) {
        record.loopback_routes.push(text);
        record.save(&config.state_dir)?;
    }
    match socket.add_route(&service_route(range, Some(config.node_ip))) {
        Ok(()) => Ok(()),
        Err(error) if error.refusal() == Some(Errno::EXIST) => {
            let routes = socket.routes().map_err(netlink("list routes"))?;
            let ours = |route: &Route| {
                route.destination == range
                    && route.link_index == Some(LOOPBACK_INDEX)
                    && route.protocol == ROUTE_PROTOCOL
            };
            if !routes.iter().any(ours) {
                return Err(NetworkStartError::RangeTaken(range));
            }
            // The node's address may be another one than in its earlier life.
            let mut requests = Requests::new();
            requests.replace_route(&service_route(range, Some(config.node_ip)));
            socket
                .execute(requests)
                .map_err(netlink("route the services' range anew"))
        }
        Err(source) => Err(NetworkStartError::Netlink {
            action: "route the services' range",
            source,
        }),
    }
}

pub(crate) fn service_route(range: Ipv4Cidr, source: Option<Ipv4Addr>) -> RouteSpec {
    RouteSpec {
        destination: range,
        target: RouteTarget::Link(LOOPBACK_INDEX),
        source,
        protocol: ROUTE_PROTOCOL,
    }
}

/// Notes that the host did not forward before the first instance came. The last one to go must know, whichever that is:
/// so each marks its table, and a later one takes the mark over.
fn note_forwarding(
    place: &Place,
    record: &mut Record,
    config: &NetworkConfig,
    names: &InstanceNames,
) -> Result<(), NetworkStartError> {
    if record.sysctls.contains_key(IP_FORWARD) {
        return Ok(());
    }
    if place.read_sysctl(IP_FORWARD)? == "1" {
        let chains = place.nft_socket().and_then(|mut nft| nft.chains());
        let chains = chains.map_err(netlink("list chains"))?;
        let is_mark =
            |chain: &Chain| chain.name == FORWARDING_MARK && names.is_foreign_pod_table(&chain.table);
        if !chains.iter().any(is_mark) {
            return Ok(());
        }
    }
    record.sysctls.insert(IP_FORWARD.to_owned(), "0".to_owned());
    Ok(record.save(&config.state_dir)?)
}

/// What pods send out of the cluster has the host's address, or nobody could answer. And nobody but this host itself
/// reaches its loopback range, although the pods' devices let it pass for node ports (CVE-2020-8558): the guard comes
/// before the first such device and goes after the last.
pub(crate) fn install_table(
    place: &Place,
    config: &NetworkConfig,
    names: &InstanceNames,
) -> Result<(), NetworkStartError> {
    let table = names.pod_table();
    let outward = BaseChain {
        kind: ChainKind::Nat,
        hook: Hook::Postrouting,
        priority: SOURCE_TRANSLATION,
    };
    let guard = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Prerouting,
        priority: BEFORE_TRACKING,
    };
    let multicast = Ipv4Cidr::new(Ipv4Addr::new(224, 0, 0, 0), 4).expect("4 is a prefix");
    let loopback = Ipv4Cidr::new(Ipv4Addr::LOCALHOST, 8).expect("8 is a prefix");
    let masquerade = Rule::new()
        .if_source_in(config.pod_cidr)
        .unless_destination_in(config.cluster_cidr)
        .unless_destination_in(multicast)
        .masquerade();
    let foreign = || Rule::new().unless_input_device(LOOPBACK_INDEX);
    let drop = Verdict::Drop;
    let mut batch = Batch::new();
    batch
        .renew_table(&table)
        .add_chain(&table, "outward", Some(outward))
        .add_rule(&table, "outward", &masquerade)
        .add_chain(&table, "loopback-guard", Some(guard))
        .add_rule(
            &table,
            "loopback-guard",
            &foreign().if_destination_in(loopback).verdict(&drop),
        )
        .add_rule(
            &table,
            "loopback-guard",
            &foreign().if_source_in(loopback).verdict(&drop),
        );
    if Record::load(&config.state_dir)?.sysctls.contains_key(IP_FORWARD) {
        batch.add_chain(&table, FORWARDING_MARK, None);
    }
    let commit = || place.nft_socket()?.commit(batch);
    commit().map_err(netlink("install the pods' table"))
}

fn note_loopback_address(
    record: &mut Record,
    state_dir: &Path,
    address: Ipv4Addr,
) -> Result<(), NetworkStartError> {
    if !record.loopback_addresses.contains(&address) {
        record.loopback_addresses.push(address);
        record.save(state_dir)?;
    }
    Ok(())
}

fn add_loopback_address(
    socket: &mut RouteSocket,
    address: Ipv4Addr,
    scope: u8,
) -> Result<(), NetworkStartError> {
    match socket.add_address(LOOPBACK_INDEX, address, 32, scope) {
        Err(error) if error.refusal() == Some(Errno::EXIST) => Ok(()),
        added => added.map_err(netlink("put an address on the loopback device")),
    }
}

pub(crate) fn netlink(action: &'static str) -> impl FnOnce(NetlinkError) -> NetworkStartError {
    move |source| NetworkStartError::Netlink { action, source }
}

impl From<RecordError> for NetworkStartError {
    fn from(error: RecordError) -> Self {
        Self::File {
            action: error.action,
            path: error.path,
            source: error.source,
        }
    }
}
