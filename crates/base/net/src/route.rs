//! Links, addresses, routes and neighbours of a network namespace.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::Ipv4Cidr;
use crate::module::when_loaded;
use crate::namespace::NetNamespace;
use crate::netlink::{Message, NetlinkError, NetlinkSocket, ParseError, Protocol, Requests};

mod request;
#[cfg(test)]
mod tests;

pub use request::{LinkChange, MacAddress, RouteSpec, RouteTarget, VethSpec};

/// The loopback device has this index in every namespace.
pub const LOOPBACK_INDEX: u32 = 1;

/// `RTNLGRP_LINK`.
const LINK_NEWS: u32 = 1;
/// `IF_OPER_UP`.
const OPERATIONALLY_UP: u8 = 6;

/// Reads and changes links, addresses, routes and neighbours.
///
/// # Blocking
/// Additions take microseconds; deleting a link waits for the kernel's readers, some milliseconds.
#[derive(Debug)]
pub struct RouteSocket {
    socket: NetlinkSocket,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The free text that its maker put on it.
    pub alias: Option<String>,
    /// Largest packet in bytes.
    pub mtu_bytes: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Its hardware address, if it has one of six bytes.
    pub mac: Option<MacAddress>,
}

/// An address on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The device.
    pub link_index: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// How many of its bits name the network.
    pub prefix: u8,
    /// How far it is valid: `RT_SCOPE_*`.
    pub scope: u8,
}

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: Ipv4Cidr,
    /// Over which device.
    pub link_index: Option<u32>,
    /// Over which router.
    pub gateway: Option<Ipv4Addr>,
    /// The source address that it prefers.
    pub source: Option<Ipv4Addr>,
    /// The lower the better.
    pub priority: u32,
    /// Who made it.
    pub protocol: u8,
}

/// Where traffic to the outside leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// The device.
    pub link: Link,
    /// The host's address towards it, if there is a usable one.
    pub address: Option<Ipv4Addr>,
}

impl RouteSocket {
    /// For the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: NetlinkSocket::open(Protocol::Route)?,
        })
    }

    /// For another network namespace.
    pub fn open_in(namespace: &NetNamespace) -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: NetlinkSocket::open_in(namespace, Protocol::Route)?,
        })
    }

    /// Sends prepared requests in one go and returns each one's outcome.
    pub fn execute_each(
        &mut self,
        requests: Requests,
    ) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        self.socket.execute_each(requests)
    }

    /// Sends prepared requests in one go; the first refusal is the result.
    pub fn execute(&mut self, requests: Requests) -> Result<(), NetlinkError> {
        self.socket.execute(requests)
    }

    /// Makes a pair of devices, one end of it in another namespace.
    ///
    /// # Blocking
    /// The first pair on a machine loads the kernel's module for it; half a second where there is none.
    pub fn add_veth(
        &mut self,
        spec: &VethSpec<'_>,
        peer_namespace: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        let missing = |error: &NetlinkError| error.refusal() == Some(Errno::OPNOTSUPP);
        when_loaded(missing, || {
            let mut requests = Requests::new();
            request::add_veth(&mut requests, spec, peer_namespace.as_raw_fd());
            self.execute(requests)
        })
    }

    /// Changes a device.
    pub fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), NetlinkError> {
        let mut requests = Requests::new();
        request::change_link(&mut requests, index, change);
        self.execute(requests)
    }

    /// Removes a device (of a veth pair: both).
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut requests = Requests::new();
        request::delete_link(&mut requests, index);
        self.execute(requests)
    }

    /// Removes all devices of a group at once, which takes no longer than one. Refused with `ENODEV` if there is none.
    pub fn delete_group(&mut self, group: u32) -> Result<(), NetlinkError> {
        let mut requests = Requests::new();
        request::delete_group(&mut requests, group);
        self.execute(requests)
    }

    /// Puts an address on a device; `scope` is one of `RT_SCOPE_*`.
    pub fn add_address(
        &mut self,
        link_index: u32,
        address: Ipv4Addr,
        prefix: u8,
        scope: u8,
    ) -> Result<(), NetlinkError> {
        let mut requests = Requests::new();
        request::add_address(
            &mut requests,
            &Address {
                link_index,
                address,
                prefix,
                scope,
            },
        );
        self.execute(requests)
    }

    /// Takes an address from a device.
    pub fn delete_address(
        &mut self,
        link_index: u32,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), NetlinkError> {
        let mut requests = Requests::new();
        request::delete_address(
            &mut requests,
            &Address {
                link_index,
                address,
                prefix,
                scope: 0,
            },
        );
        self.execute(requests)
    }

    /// Adds a route to the main table; refused with `EEXIST` when there is one to the same destination.
    pub fn add_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        let mut requests = Requests::new();
        request::add_route(&mut requests, route);
        self.execute(requests)
    }

    /// Removes a route from the main table.
    pub fn delete_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        let mut requests = Requests::new();
        request::delete_route(&mut requests, route);
        self.execute(requests)
    }

    /// All devices.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut links = Vec::new();
        self.socket
            .dump(request::list(libc::RTM_GETLINK, 16), |message| {
                links.extend(parse_link(message)?);
                Ok(())
            })?;
        Ok(links)
    }

    /// The device of this name.
    pub fn link_named(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut link = None;
        let found = self.socket.get(request::link_named(name), |message| {
            link = parse_link(message)?;
            Ok(())
        });
        match found {
            Err(error) if error.refusal() == Some(Errno::NODEV) => Ok(None),
            found => found.map(|()| link),
        }
    }

    /// Waits until a device that was set up really sends.
    ///
    /// After `up` returns, the kernel brings one end of a veth pair to life a little later, from a work queue; what is
    /// sent before is silently dropped, and a lost first packet costs its connection a second.
    ///
    /// # Blocking
    /// Below a millisecond on an idle machine; an error after five seconds without news.
    pub fn wait_until_running(&mut self, link_index: u32) -> Result<(), NetlinkError> {
        self.socket.join(LINK_NEWS)?;
        let running = Cell::new(false);
        let look = |message: &Message<'_>| {
            let is_it = parse_link(message)?.is_some_and(|link| link.index == link_index);
            running.set(running.get() || (is_it && is_running(message)?));
            Ok(())
        };
        // The kernel may say that the device runs after it answered and before it acknowledged the question.
        self.socket
            .get_amid_news(request::link_numbered(link_index), look)?;
        while !running.get() {
            self.socket.hear(look)?;
        }
        Ok(())
    }

    /// All IPv4 addresses.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let mut addresses = Vec::new();
        self.socket.dump(request::list(libc::RTM_GETADDR, 8), |message| {
            addresses.extend(parse_address(message)?);
            Ok(())
        })?;
        Ok(addresses)
    }

    /// All IPv4 routes of the main table.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        self.socket
            .dump(request::list(libc::RTM_GETROUTE, 12), |message| {
                routes.extend(parse_route(message)?);
                Ok(())
            })?;
        Ok(routes)
    }

    /// Where the best default route leads, if there is one.
    pub fn uplink(&mut self) -> Result<Option<Uplink>, NetlinkError> {
        let routes = self.routes()?;
        let default = routes
            .iter()
            .filter(|route| route.destination.prefix() == 0 && route.link_index.is_some())
            .min_by_key(|route| route.priority);
        let Some(route) = default else { return Ok(None) };
        let link = self
            .links()?
            .into_iter()
            .find(|link| Some(link.index) == route.link_index);
        let Some(link) = link else { return Ok(None) };
        let addresses = self.addresses()?;
        let on_link = || {
            addresses
                .iter()
                .filter(|a| a.link_index == link.index && is_usable_node_address(a.address))
        };
        // On the gateway's own network if possible, as the kernel chooses; else the device's first.
        let towards = |gateway| {
            on_link()
                .find(|a| Ipv4Cidr::new(a.address, a.prefix).is_some_and(|range| range.contains(gateway)))
        };
        let address = route
            .source
            .filter(|source| is_usable_node_address(*source))
            .or_else(|| route.gateway.and_then(towards).map(|a| a.address))
            .or_else(|| on_link().next().map(|a| a.address));
        Ok(Some(Uplink { link, address }))
    }

    /// The address that this machine is best known by: the default route's source, else the first usable one of any
    /// device that is up. `None` when the machine has only loopback and link-local addresses.
    pub fn host_address(&mut self) -> Result<Option<Ipv4Addr>, NetlinkError> {
        if let Some(address) = self.uplink()?.and_then(|uplink| uplink.address) {
            return Ok(Some(address));
        }
        let up: Vec<u32> = self
            .links()?
            .into_iter()
            .filter(|link| link.up)
            .map(|link| link.index)
            .collect();
        let usable = |a: &&Address| {
            a.link_index != LOOPBACK_INDEX
                && up.contains(&a.link_index)
                && a.scope == libc::RT_SCOPE_UNIVERSE
                && is_usable_node_address(a.address)
        };
        Ok(self.addresses()?.iter().find(usable).map(|a| a.address))
    }
}

/// Whether endpoints may have this address: neither loopback nor link-local, and one machine's.
pub fn is_usable_node_address(address: Ipv4Addr) -> bool {
    !(address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_unspecified()
        || address.is_broadcast())
}

fn parse_link(message: &Message<'_>) -> Result<Option<Link>, ParseError> {
    if message.kind != libc::RTM_NEWLINK {
        return Ok(None);
    }
    let (header, attributes) = message.split::<16>()?;
    let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    let flags = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    let up = flags & libc::IFF_UP as u32 != 0;
    let mut link = Link {
        index,
        name: String::new(),
        alias: None,
        mtu_bytes: 0,
        up,
        mac: None,
    };
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            libc::IFLA_IFNAME => attribute.text()?.clone_into(&mut link.name),
            libc::IFLA_IFALIAS => link.alias = Some(attribute.text()?.to_owned()),
            libc::IFLA_MTU => link.mtu_bytes = attribute.u32()?,
            libc::IFLA_ADDRESS => link.mac = attribute.value.try_into().ok().map(MacAddress),
            _ => {}
        }
    }
    Ok(Some(link))
}

fn is_running(message: &Message<'_>) -> Result<bool, ParseError> {
    let (_, attributes) = message.split::<16>()?;
    let state = attributes.find(libc::IFLA_OPERSTATE)?;
    Ok(state.is_some_and(|state| state.value == [OPERATIONALLY_UP]))
}

fn parse_address(message: &Message<'_>) -> Result<Option<Address>, ParseError> {
    if message.kind != libc::RTM_NEWADDR {
        return Ok(None);
    }
    let (header, attributes) = message.split::<8>()?;
    let link_index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
    if header[0] != libc::AF_INET as u8 {
        return Ok(None);
    }
    let local = attributes
        .find(libc::IFA_LOCAL)?
        .or(attributes.find(libc::IFA_ADDRESS)?);
    let Some(local) = local else { return Ok(None) };
    Ok(Some(Address {
        link_index,
        address: local.ipv4()?,
        prefix: header[1],
        scope: header[3],
    }))
}

fn parse_route(message: &Message<'_>) -> Result<Option<Route>, ParseError> {
    if message.kind != libc::RTM_NEWROUTE {
        return Ok(None);
    }
    let (header, attributes) = message.split::<12>()?;
    let in_main_table = header[4] == libc::RT_TABLE_MAIN;
    if header[0] != libc::AF_INET as u8 || !in_main_table {
        return Ok(None);
    }
    let address_of = |kind| attributes.find(kind)?.map(|a| a.ipv4()).transpose();
    let number_of = |kind| attributes.find(kind)?.map(|a| a.u32()).transpose();
    let destination = address_of(libc::RTA_DST)?.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let Some(destination) = Ipv4Cidr::new(destination, header[1]) else {
        return Ok(None);
    };
    Ok(Some(Route {
        destination,
        link_index: number_of(libc::RTA_OIF)?,
        gateway: address_of(libc::RTA_GATEWAY)?,
        source: address_of(libc::RTA_PREFSRC)?,
        priority: number_of(libc::RTA_PRIORITY)?.unwrap_or(0),
        protocol: header[5],
    }))
}
