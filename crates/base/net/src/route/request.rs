//! Requests to the kernel's routing part, built without I/O.

use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;

use crate::Ipv4Cidr;
use crate::netlink::{AttributeWriter, Requests};

use super::Address;

const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const DEVCONF_PROXY_ARP: u16 = 3;
const DEVCONF_RP_FILTER: u16 = 8;
const DEVCONF_ROUTE_LOCALNET: u16 = 26;
const IFLA_INET6_ADDRESS_MODE: u16 = 8;
const ADDRESS_MODE_NONE: u8 = 1;
const NEXT_HOP_ONLINK: u32 = 4;
const NUD_PERMANENT: u16 = 0x80;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

/// A pair of devices to make.
#[derive(Debug, Clone, Copy)]
pub struct VethSpec<'a> {
    /// The near end's name, at most 15 bytes.
    pub name: &'a str,
    /// The near end's hardware address.
    pub mac: MacAddress,
    /// The far end's name.
    pub peer_name: &'a str,
    /// The far end's hardware address.
    pub peer_mac: MacAddress,
    /// Largest packet of both in bytes.
    pub mtu_bytes: u32,
}

/// What to change about a device. The default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange<'a> {
    /// Set it up.
    pub up: bool,
    /// Put this text on it.
    pub alias: Option<&'a str>,
    /// Let 127.0.0.0/8 pass (`route_localnet`).
    pub route_localnet: Option<bool>,
    /// Answer ARP for what is routed elsewhere (`proxy_arp`).
    pub proxy_arp: Option<bool>,
    /// Check sources against routes (`rp_filter`): 0, 1 or 2.
    pub reverse_path_filter: Option<u32>,
    /// Put it into this group, by which devices can be removed together.
    pub group: Option<u32>,
    /// Give it no IPv6 address by itself. Refused by a kernel without IPv6.
    pub no_ipv6_address: bool,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteTarget {
    /// Straight to the device; everything there is a neighbour.
    Link(u32),
    /// Over a router that is a neighbour on the device, whatever its address.
    Gateway(u32, Ipv4Addr),
}

/// A route to make or to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSpec {
    /// Where to.
    pub destination: Ipv4Cidr,
    /// Over what.
    pub target: RouteTarget,
    /// Preferred source address.
    pub source: Option<Ipv4Addr>,
    /// Who makes it: `RTPROT_*` or an own number.
    pub protocol: u8,
}

pub(super) fn list(kind: u16, header_bytes: usize) -> Requests {
    let mut header = [0; 16];
    header[0] = if kind == libc::RTM_GETLINK {
        0
    } else {
        libc::AF_INET as u8
    };
    let mut requests = Requests::new();
    requests.push(kind, 0, &header[..header_bytes], |_| {});
    requests
}

pub(super) fn link_named(name: &str) -> Requests {
    let mut requests = Requests::new();
    requests.push(libc::RTM_GETLINK, 0, &link_header(0, 0, 0), |w| {
        w.text(libc::IFLA_IFNAME, name);
    });
    requests
}

pub(super) fn link_numbered(index: u32) -> Requests {
    let mut requests = Requests::new();
    requests.push(libc::RTM_GETLINK, 0, &link_header(index, 0, 0), |_| {});
    requests
}

pub(super) fn add_veth(requests: &mut Requests, spec: &VethSpec<'_>, peer_namespace: RawFd) {
    let peer = |w: &mut AttributeWriter<'_>| {
        w.raw(&link_header(0, 0, 0))
            .text(libc::IFLA_IFNAME, spec.peer_name)
            .bytes(libc::IFLA_ADDRESS, &spec.peer_mac.0)
            .u32(libc::IFLA_MTU, spec.mtu_bytes)
            .u32(libc::IFLA_NET_NS_FD, peer_namespace as u32);
    };
    requests.push(libc::RTM_NEWLINK, CREATE, &link_header(0, 0, 0), |w| {
        w.text(libc::IFLA_IFNAME, spec.name)
            .bytes(libc::IFLA_ADDRESS, &spec.mac.0)
            .u32(libc::IFLA_MTU, spec.mtu_bytes)
            .nest(libc::IFLA_LINKINFO, |w| {
                w.text(libc::IFLA_INFO_KIND, "veth")
                    .nest(libc::IFLA_INFO_DATA, |w| {
                        w.nest(VETH_INFO_PEER, peer);
                    });
            });
    });
}

pub(super) fn change_link(requests: &mut Requests, index: u32, change: &LinkChange<'_>) {
    let up = libc::IFF_UP as u32;
    let header = if change.up {
        link_header(index, up, up)
    } else {
        link_header(index, 0, 0)
    };
    let settings = [
        (DEVCONF_ROUTE_LOCALNET, change.route_localnet.map(u32::from)),
        (DEVCONF_PROXY_ARP, change.proxy_arp.map(u32::from)),
        (DEVCONF_RP_FILTER, change.reverse_path_filter),
    ];
    requests.push(libc::RTM_NEWLINK, 0, &header, |w| {
        if let Some(alias) = change.alias {
            w.bytes(libc::IFLA_IFALIAS, alias.as_bytes());
        }
        if let Some(group) = change.group {
            w.u32(libc::IFLA_GROUP, group);
        }
        let ipv4 = settings.iter().any(|(_, value)| value.is_some());
        if !ipv4 && !change.no_ipv6_address {
            return;
        }
        w.nest(libc::IFLA_AF_SPEC, |w| {
            if ipv4 {
                write_ipv4_settings(w, &settings);
            }
            if change.no_ipv6_address {
                w.nest(libc::AF_INET6 as u16, |w| {
                    w.u8(IFLA_INET6_ADDRESS_MODE, ADDRESS_MODE_NONE);
                });
            }
        });
    });
}

fn write_ipv4_settings(w: &mut AttributeWriter<'_>, settings: &[(u16, Option<u32>)]) {
    w.nest(libc::AF_INET as u16, |w| {
        w.nest(IFLA_INET_CONF, |w| {
            for (setting, value) in settings {
                if let Some(value) = value {
                    w.u32(*setting, *value);
                }
            }
        });
    });
}

/// All devices of a group.
pub(super) fn delete_group(requests: &mut Requests, group: u32) {
    requests.push(libc::RTM_DELLINK, 0, &link_header(0, 0, 0), |w| {
        w.u32(libc::IFLA_GROUP, group);
    });
}

pub(super) fn delete_link(requests: &mut Requests, index: u32) {
    requests.push(libc::RTM_DELLINK, 0, &link_header(index, 0, 0), |_| {});
}

pub(super) fn add_address(requests: &mut Requests, address: &Address) {
    requests.push(libc::RTM_NEWADDR, CREATE, &address_header(address), |w| {
        w.ipv4(libc::IFA_LOCAL, address.address)
            .ipv4(libc::IFA_ADDRESS, address.address);
    });
}

pub(super) fn delete_address(requests: &mut Requests, address: &Address) {
    requests.push(libc::RTM_DELADDR, 0, &address_header(address), |w| {
        w.ipv4(libc::IFA_LOCAL, address.address);
    });
}

pub(super) fn add_route(requests: &mut Requests, route: &RouteSpec) {
    push_route(requests, libc::RTM_NEWROUTE, CREATE, route);
}

pub(super) fn delete_route(requests: &mut Requests, route: &RouteSpec) {
    push_route(requests, libc::RTM_DELROUTE, 0, route);
}

fn push_route(requests: &mut Requests, kind: u16, flags: u16, route: &RouteSpec) {
    let (index, gateway) = match route.target {
        RouteTarget::Link(index) => (index, None),
        RouteTarget::Gateway(index, gateway) => (index, Some(gateway)),
    };
    let scope = if gateway.is_some() {
        libc::RT_SCOPE_UNIVERSE
    } else {
        libc::RT_SCOPE_LINK
    };
    let route_flags = if gateway.is_some() { NEXT_HOP_ONLINK } else { 0 };
    let mut header = [0; 12];
    header[0] = libc::AF_INET as u8;
    header[1] = route.destination.prefix();
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = route.protocol;
    header[6] = scope;
    header[7] = libc::RTN_UNICAST;
    header[8..].copy_from_slice(&route_flags.to_ne_bytes());
    requests.push(kind, flags, &header, |w| {
        w.ipv4(libc::RTA_DST, route.destination.network())
            .u32(libc::RTA_OIF, index);
        if let Some(gateway) = gateway {
            w.ipv4(libc::RTA_GATEWAY, gateway);
        }
        if let Some(source) = route.source {
            w.ipv4(libc::RTA_PREFSRC, source);
        }
    });
}

impl Requests {
    /// Adds: change a device.
    pub fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> &mut Self {
        change_link(self, index, change);
        self
    }

    /// Adds: put an address on a device.
    pub fn add_address(&mut self, address: &Address) -> &mut Self {
        add_address(self, address);
        self
    }

    /// Adds: a route.
    pub fn add_route(&mut self, route: &RouteSpec) -> &mut Self {
        add_route(self, route);
        self
    }

    /// Adds: a route that takes the place of one to the same destination.
    pub fn replace_route(&mut self, route: &RouteSpec) -> &mut Self {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        push_route(self, libc::RTM_NEWROUTE, flags, route);
        self
    }

    /// Adds: a neighbour that never has to be asked for, replacing what is there.
    pub fn add_permanent_neighbour(&mut self, index: u32, address: Ipv4Addr, mac: MacAddress) -> &mut Self {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        let mut header = [0; 12];
        header[0] = libc::AF_INET as u8;
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
        self.push(libc::RTM_NEWNEIGH, flags, &header, |w| {
            w.ipv4(libc::NDA_DST, address).bytes(libc::NDA_LLADDR, &mac.0);
        })
    }
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

fn address_header(address: &Address) -> [u8; 8] {
    let [a, b, c, d] = address.link_index.to_ne_bytes();
    [libc::AF_INET as u8, address.prefix, 0, address.scope, a, b, c, d]
}
