//! Root tests: each in a network namespace of its own.

use std::net::UdpSocket;

use super::*;
use crate::RouteSocket;
use crate::nftables::{BaseChain, Batch, ChainKind, Hook, NftSocket, Rule};
use crate::route::{LOOPBACK_INDEX, LinkChange};

const UDP: u8 = 17;
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A namespace that tracks datagrams over its loopback device to these ports.
fn tracking(ports: &[u16]) -> NetNamespace {
    let namespace = NetNamespace::create().unwrap();
    let up = LinkChange {
        up: true,
        ..LinkChange::default()
    };
    RouteSocket::open_in(&namespace)
        .unwrap()
        .change_link(LOOPBACK_INDEX, &up)
        .unwrap();
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Output,
        priority: 0,
    };
    let mut batch = Batch::new();
    batch.add_table("t").add_chain("t", "c", Some(base));
    batch.add_rule(
        "t",
        "c",
        &Rule::new().if_ct_state(crate::nftables::ct_state::NEW).count(),
    );
    NftSocket::open_in(&namespace).unwrap().commit(batch).unwrap();
    let send = || {
        let receivers: Vec<_> = ports
            .iter()
            .map(|port| UdpSocket::bind((HERE, *port)).unwrap())
            .collect();
        let sender = UdpSocket::bind((HERE, 0)).unwrap();
        for (port, receiver) in ports.iter().zip(receivers) {
            sender.send_to(b"?", (HERE, *port)).unwrap();
            receiver.recv(&mut [0]).unwrap();
        }
    };
    namespace.run(send).unwrap();
    namespace
}

fn count(namespace: &NetNamespace) -> usize {
    let read = || std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    namespace.run(read).unwrap().trim().parse().unwrap()
}

fn check(connections: Connections, left: usize) {
    for by_filter in [true, false] {
        let namespace = tracking(&[1001, 1002]);
        assert_eq!(count(&namespace), 2);
        let mut socket = ConntrackSocket::open_in(&namespace).unwrap();
        socket.by_filter = by_filter;
        socket.forget(&[connections]).unwrap();
        assert_eq!(count(&namespace), left, "{connections:?}, by filter: {by_filter}");
    }
}

#[test]
fn exactly_the_described_connections_are_forgotten() {
    let to = Connections {
        protocol: UDP,
        destination: Some(HERE),
        destination_port: 1001,
        answered_by: None,
    };
    check(to, 1);
    check(
        Connections {
            destination: None,
            ..to
        },
        1,
    );
    check(
        Connections {
            answered_by: Some((HERE, 1001)),
            ..to
        },
        1,
    );
    check(
        Connections {
            answered_by: Some((HERE, 1002)),
            ..to
        },
        2,
    );
    check(
        Connections {
            answered_by: Some((Ipv4Addr::new(10, 0, 0, 1), 1001)),
            ..to
        },
        2,
    );
    check(
        Connections {
            destination: Some(Ipv4Addr::new(10, 0, 0, 1)),
            ..to
        },
        2,
    );
    check(
        Connections {
            destination_port: 1003,
            ..to
        },
        2,
    );
    check(Connections { protocol: 6, ..to }, 2);
}

#[test]
fn connections_are_listed_by_protocol() {
    let namespace = tracking(&[1001, 1002]);
    let mut socket = ConntrackSocket::open_in(&namespace).unwrap();
    let mut listed = socket.list(UDP).unwrap();
    listed.sort_by_key(|tracked| tracked.destination);
    let to = |port| ((HERE, port), (HERE, port));
    let found: Vec<_> = listed.iter().map(|t| (t.destination, t.answered_by)).collect();
    assert_eq!(found, [to(1001), to(1002)]);
    assert!(
        listed
            .iter()
            .all(|t| t.protocol == UDP && t.source.0 == HERE && t.source.1 != 0)
    );
    assert!(socket.list(6).unwrap().is_empty());
}
