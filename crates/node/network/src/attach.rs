//! Connecting one pod: a veth pair, both ends set up, finished by the alias.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use cloudeck_net::netlink::Requests;
use cloudeck_net::route::{
    Address, LOOPBACK_INDEX, LinkChange, MacAddress, RouteSpec, RouteTarget, VethSpec,
};
use cloudeck_net::{Ipv4Cidr, NetNamespace, NetlinkError, RouteSocket};
use rustix::io::Errno;

use crate::error::AttachError;
use crate::host::{GATEWAY, ROUTE_PROTOCOL};
use crate::name;

/// The pod's end of its link.
const POD_LINK: &str = "eth0";
/// A source is taken only from the device that the way back to it leads over.
const STRICT: u32 = 1;

/// Everything about one connection, decided before anything is done.
pub(crate) struct Plan<'a> {
    pub(crate) pod_uid: &'a str,
    pub(crate) address: Ipv4Addr,
    pub(crate) host_link: &'a str,
    pub(crate) alias: &'a str,
    pub(crate) node_ip: Ipv4Addr,
    pub(crate) mtu_bytes: u32,
    /// Whether the kernel knows IPv6, so that the devices must be kept from taking addresses: the pod network is IPv4
    /// only, and its rules would not see what passes between link-local addresses of pods and the host.
    pub(crate) ipv6: bool,
}

impl Plan<'_> {
    /// Connects the pod. On failure the link is removed again.
    pub(crate) fn carry_out(&self, host: &mut RouteSocket, pod: &NetNamespace) -> Result<(), AttachError> {
        self.make_link(host, pod)?;
        let connected = self.set_up(host, pod);
        if connected.is_err() {
            // The first error is the one to report; what is left is removed when the daemon starts the next time.
            let _ = remove_link(host, self.host_link);
        }
        connected
    }

    fn make_link(&self, host: &mut RouteSocket, pod: &NetNamespace) -> Result<(), AttachError> {
        let spec = VethSpec {
            name: self.host_link,
            mac: mac(self.pod_uid, "host"),
            peer_name: POD_LINK,
            peer_mac: mac(self.pod_uid, "pod"),
            mtu_bytes: self.mtu_bytes,
        };
        let made = match host.add_veth(&spec, pod.as_fd()) {
            // Left over from an attempt that was killed half-way.
            Err(error) if error.refusal() == Some(Errno::EXIST) => {
                remove_link(host, self.host_link).and_then(|()| host.add_veth(&spec, pod.as_fd()))
            }
            made => made,
        };
        made.map_err(|source| self.failed("make a veth pair", source))
    }

    fn set_up(&self, host: &mut RouteSocket, pod: &NetNamespace) -> Result<(), AttachError> {
        let mut inside =
            RouteSocket::open_in(pod).map_err(|e| self.failed("open a socket in the namespace", e))?;
        let pod_link = inside
            .link_named(POD_LINK)
            .map_err(|e| self.failed("find the pod's device", e))?;
        let host_link = host
            .link_named(self.host_link)
            .map_err(|e| self.failed("find the host's device", e))?;
        let (Some(pod_link), Some(host_link)) = (pod_link, host_link) else {
            return Err(AttachError::Vanished(self.pod_uid.to_owned()));
        };
        inside
            .execute(self.inside_requests(pod_link.index))
            .map_err(|source| self.failed("set up the pod's device", source))?;
        host.execute(self.host_requests(host_link.index))
            .map_err(|source| self.failed("set up the host's device", source))?;
        // The host's end was set up last and runs at once.
        inside
            .wait_until_running(pod_link.index)
            .map_err(|source| self.failed("wait for the pod's device", source))
    }

    fn inside_requests(&self, link_index: u32) -> Requests {
        let up = LinkChange {
            up: true,
            ..LinkChange::default()
        };
        let own_up = LinkChange {
            no_ipv6_address: self.ipv6,
            ..up
        };
        let scope = libc::RT_SCOPE_UNIVERSE;
        let to_gateway = RouteSpec {
            destination: host_range(GATEWAY),
            target: RouteTarget::Link(link_index),
            source: None,
            protocol: ROUTE_PROTOCOL,
        };
        let everywhere = Ipv4Cidr::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix");
        let default = RouteSpec {
            destination: everywhere,
            target: RouteTarget::Gateway(link_index, GATEWAY),
            ..to_gateway
        };
        let mut requests = Requests::new();
        requests
            .change_link(LOOPBACK_INDEX, &up)
            .add_address(&Address {
                link_index,
                address: self.address,
                prefix: 32,
                scope,
            })
            .change_link(link_index, &own_up)
            .add_permanent_neighbour(link_index, GATEWAY, mac(self.pod_uid, "host"))
            .add_route(&to_gateway)
            .add_route(&default);
        requests
    }

    fn host_requests(&self, link_index: u32) -> Requests {
        // NodePorts answer on 127.0.0.1: what the pod sends back then has that destination after translation. What pods
        // send there by themselves is dropped by the table's guard before translation.
        let open = LinkChange {
            up: true,
            route_localnet: Some(true),
            no_ipv6_address: self.ipv6,
            // A pod may send under its own address only.
            reverse_path_filter: Some(STRICT),
            ..LinkChange::default()
        };
        let finished = LinkChange {
            alias: Some(self.alias),
            ..LinkChange::default()
        };
        let mut requests = Requests::new();
        requests.change_link(link_index, &open);
        lead_to_pod(
            &mut requests,
            link_index,
            self.pod_uid,
            self.address,
            self.node_ip,
        );
        requests.change_link(link_index, &finished);
        requests
    }

    fn failed(&self, action: &'static str, source: NetlinkError) -> AttachError {
        AttachError::Netlink {
            action,
            pod_uid: self.pod_uid.to_owned(),
            source,
        }
    }
}

/// The way from the host to a pod. Doing it again changes nothing, or mends what is missing.
pub(crate) fn lead_to_pod(
    requests: &mut Requests,
    link_index: u32,
    pod_uid: &str,
    address: Ipv4Addr,
    node_ip: Ipv4Addr,
) {
    let route = RouteSpec {
        destination: host_range(address),
        target: RouteTarget::Link(link_index),
        source: Some(node_ip),
        protocol: ROUTE_PROTOCOL,
    };
    requests
        .add_permanent_neighbour(link_index, address, mac(pod_uid, "pod"))
        .replace_route(&route);
}

/// Removes a link if it is there.
pub(crate) fn remove_link(host: &mut RouteSocket, link: &str) -> Result<(), NetlinkError> {
    let Some(found) = host.link_named(link)? else {
        return Ok(());
    };
    unless_gone(host.delete_link(found.index))
}

/// Marks links for [`remove_marked`], which is quick.
pub(crate) fn mark_for_removal(
    host: &mut RouteSocket,
    links: impl IntoIterator<Item = u32>,
    group: u32,
) -> Result<(), NetlinkError> {
    let mut requests = Requests::new();
    for index in links {
        requests.change_link(
            index,
            &LinkChange {
                group: Some(group),
                ..LinkChange::default()
            },
        );
    }
    host.execute_each(requests)?.into_iter().try_for_each(unless_gone)
}

/// Removes all marked links. Waits for the kernel's readers once, some 20 ms, however many there are.
pub(crate) fn remove_marked(host: &mut RouteSocket, group: u32) -> Result<(), NetlinkError> {
    unless_gone(host.delete_group(group))
}

fn unless_gone(done: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match done {
        Err(error) if error.refusal() == Some(Errno::NODEV) => Ok(()),
        done => done,
    }
}

/// Whether the pod's namespace has the address already.
pub(crate) fn has_address(pod: &NetNamespace, address: Ipv4Addr) -> Result<bool, NetlinkError> {
    Ok(RouteSocket::open_in(pod)?
        .addresses()?
        .iter()
        .any(|found| found.address == address))
}

fn host_range(address: Ipv4Addr) -> Ipv4Cidr {
    Ipv4Cidr::new(address, 32).expect("32 is a prefix")
}

/// A locally administered address, the same at every attempt for the same pod.
fn mac(pod_uid: &str, end: &str) -> MacAddress {
    let mut octets = [0x02; 6];
    octets[1..].copy_from_slice(&name::hash(format!("{end}:{pod_uid}").as_bytes()).to_be_bytes()[..5]);
    MacAddress(octets)
}
