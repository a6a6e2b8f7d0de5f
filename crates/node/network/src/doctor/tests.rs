use cloudeck_net::route::{LOOPBACK_INDEX, LinkChange, RouteSpec, RouteTarget};

use super::*;

fn chain(table: &str, name: &str, hook: Option<u32>, drops_by_policy: bool) -> Chain {
    Chain {
        family: 2,
        table: table.to_owned(),
        name: name.to_owned(),
        hook,
        drops_by_policy,
    }
}

#[test]
fn a_forward_chain_that_drops_is_found() {
    let found = forward_blocked(&[chain("filter", "FORWARD", Some(2), true)]);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].what.contains("FORWARD of table filter"),
        "{}",
        found[0].what
    );
}

#[test]
fn harmless_chains_are_not_reported() {
    let harmless = [
        chain("filter", "FORWARD", Some(2), false),
        chain("filter", "INPUT", Some(1), true),
        chain("filter", "DOCKER", None, false),
        chain("cloudeck-a-services", "forward", Some(2), true),
    ];
    assert!(forward_blocked(&harmless).is_empty());
}

#[test]
fn firewalld_is_found_by_its_table() {
    assert_eq!(
        forward_blocked(&[chain("firewalld", "filter_FORWARD", Some(2), false)]).len(),
        1
    );
}

#[test]
fn a_plain_namespace_of_this_machine_has_no_findings_and_stays_empty() {
    let namespace = Arc::new(NetNamespace::create().unwrap());
    assert_eq!(diagnose(Some(Arc::clone(&namespace))), []);
    assert!(
        Place(Some(namespace))
            .nft_socket()
            .unwrap()
            .tables()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn routes_of_the_host_within_the_clusters_ranges_are_found() {
    let namespace = Arc::new(NetNamespace::create().unwrap());
    let mut socket = RouteSocket::open_in(&namespace).unwrap();
    let up = LinkChange {
        up: true,
        ..LinkChange::default()
    };
    socket.change_link(LOOPBACK_INDEX, &up).unwrap();
    let mut add = |destination: &str, protocol| {
        let destination = destination.parse().unwrap();
        let target = RouteTarget::Link(LOOPBACK_INDEX);
        socket
            .add_route(&RouteSpec {
                destination,
                target,
                source: None,
                protocol,
            })
            .unwrap();
    };
    add("10.244.7.0/24", 4);
    add("10.96.0.0/16", ROUTE_PROTOCOL);
    add("10.0.0.0/8", 4);
    let ranges = ["10.244.0.0/16", "10.96.0.0/16"].map(|range| range.parse().unwrap());
    let found = diagnose_ranges(Some(namespace), &ranges);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("10.244.7.0/24"));
}
