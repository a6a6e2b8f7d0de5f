//! Root tests: each in network namespaces of its own.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::*;

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const PEER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

fn veth(name: &'static str) -> VethSpec<'static> {
    VethSpec {
        name,
        mac: MAC,
        peer_name: "eth0",
        peer_mac: PEER_MAC,
        mtu_bytes: 1400,
    }
}

#[test]
fn a_veth_pair_spans_two_namespaces_and_goes_with_its_near_end() {
    let (near, far) = (NetNamespace::create().unwrap(), NetNamespace::create().unwrap());
    let mut here = RouteSocket::open_in(&near).unwrap();
    let mut there = RouteSocket::open_in(&far).unwrap();
    here.add_veth(&veth("a0"), far.as_fd()).unwrap();

    let link = here.link_named("a0").unwrap().unwrap();
    let change = LinkChange {
        up: true,
        alias: Some("who"),
        route_localnet: Some(true),
        proxy_arp: Some(true),
        reverse_path_filter: Some(0),
        ..LinkChange::default()
    };
    here.change_link(link.index, &change).unwrap();
    let link = here.link_named("a0").unwrap().unwrap();
    assert_eq!(
        (link.up, link.alias.as_deref(), link.mtu_bytes, link.mac),
        (true, Some("who"), 1400, Some(MAC))
    );
    let setting = near
        .run(|| std::fs::read_to_string("/proc/sys/net/ipv4/conf/a0/route_localnet"))
        .unwrap()
        .unwrap();
    assert_eq!(setting.trim(), "1");

    assert_eq!(there.link_named("eth0").unwrap().unwrap().mac, Some(PEER_MAC));
    here.delete_link(link.index).unwrap();
    assert_eq!(there.link_named("eth0").unwrap(), None);
}

#[test]
fn a_refusal_names_the_message_and_the_reason() {
    let namespace = NetNamespace::create().unwrap();
    let mut socket = RouteSocket::open_in(&namespace).unwrap();
    let mut requests = Requests::new();
    requests.change_link(
        LOOPBACK_INDEX,
        &LinkChange {
            up: true,
            ..LinkChange::default()
        },
    );
    requests.change_link(
        4711,
        &LinkChange {
            up: true,
            ..LinkChange::default()
        },
    );
    let outcomes = socket.execute_each(requests).unwrap();
    assert!(outcomes[0].is_ok());
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.refusal(), Some(Errno::NODEV));
    assert!(error.to_string().contains("message 1"), "{error}");
}

#[test]
fn the_default_route_decides_the_host_address() {
    let namespace = NetNamespace::create().unwrap();
    let peer = NetNamespace::create().unwrap();
    let mut socket = RouteSocket::open_in(&namespace).unwrap();
    assert_eq!(socket.host_address().unwrap(), None);

    let mut add = |name, address: [u8; 4]| {
        socket
            .add_veth(
                &VethSpec {
                    peer_name: name,
                    ..veth(name)
                },
                peer.as_fd(),
            )
            .unwrap();
        let index = socket.link_named(name).unwrap().unwrap().index;
        socket
            .change_link(
                index,
                &LinkChange {
                    up: true,
                    ..LinkChange::default()
                },
            )
            .unwrap();
        socket
            .add_address(index, address.into(), 24, libc::RT_SCOPE_UNIVERSE)
            .unwrap();
        index
    };
    add("v0", [169, 254, 3, 3]);
    add("v1", [10, 1, 0, 5]);
    let second = add("v2", [10, 2, 0, 5]);
    assert_eq!(socket.host_address().unwrap(), Some([10, 1, 0, 5].into()));
    assert_eq!(socket.uplink().unwrap(), None);

    let default = RouteSpec {
        destination: "0.0.0.0/0".parse().unwrap(),
        target: RouteTarget::Gateway(second, [10, 2, 0, 1].into()),
        source: None,
        protocol: libc::RTPROT_STATIC,
    };
    socket.add_route(&default).unwrap();
    assert_eq!(socket.host_address().unwrap(), Some([10, 2, 0, 5].into()));
    assert_eq!(
        socket.add_route(&default).unwrap_err().refusal(),
        Some(Errno::EXIST)
    );
    socket.delete_route(&default).unwrap();
    assert_eq!(socket.host_address().unwrap(), Some([10, 1, 0, 5].into()));
}

#[test]
fn devices_of_a_group_go_together() {
    let (near, far) = (NetNamespace::create().unwrap(), NetNamespace::create().unwrap());
    let mut socket = RouteSocket::open_in(&near).unwrap();
    for name in ["g0", "g1", "g2"] {
        socket
            .add_veth(
                &VethSpec {
                    peer_name: name,
                    ..veth(name)
                },
                far.as_fd(),
            )
            .unwrap();
        let index = socket.link_named(name).unwrap().unwrap().index;
        let group = (name != "g1").then_some(77);
        socket
            .change_link(
                index,
                &LinkChange {
                    group,
                    ..LinkChange::default()
                },
            )
            .unwrap();
    }
    socket.delete_group(77).unwrap();
    let left: Vec<_> = socket
        .links()
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect();
    assert_eq!(left, ["lo", "g1"]);
    assert_eq!(socket.delete_group(77).unwrap_err().refusal(), Some(Errno::NODEV));
}

#[test]
fn a_device_can_be_kept_from_taking_an_ipv6_address() {
    let (near, far) = (NetNamespace::create().unwrap(), NetNamespace::create().unwrap());
    let mut socket = RouteSocket::open_in(&near).unwrap();
    socket.add_veth(&veth("a0"), far.as_fd()).unwrap();
    let near_index = socket.link_named("a0").unwrap().unwrap().index;
    socket
        .change_link(
            near_index,
            &LinkChange {
                up: true,
                no_ipv6_address: true,
                ..LinkChange::default()
            },
        )
        .unwrap();
    let mut there = RouteSocket::open_in(&far).unwrap();
    let far_index = there.link_named("eth0").unwrap().unwrap().index;
    there
        .change_link(
            far_index,
            &LinkChange {
                up: true,
                ..LinkChange::default()
            },
        )
        .unwrap();
    socket.wait_until_running(near_index).unwrap();
    there.wait_until_running(far_index).unwrap();
    let addresses = |namespace: &NetNamespace| {
        namespace
            .run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6"))
            .unwrap()
    };
    // The other end, as everything by default, has one.
    assert!(addresses(&far).unwrap().contains("eth0"));
    assert!(!addresses(&near).unwrap().contains("a0"));
}
