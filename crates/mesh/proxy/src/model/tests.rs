use proptest::prelude::*;

use super::*;
use crate::view::{EndpointPortView, EndpointView, ServicePortView, TrafficPolicy};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn node() -> NodeView {
    NodeView {
        name: "here".to_owned(),
        address: NODE_ADDRESS,
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn port(node_port: Option<u16>) -> ServicePortView {
    ServicePortView {
        name: "web".to_owned(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port,
    }
}

fn service() -> ServiceView {
    ServiceView {
        cluster_ip: Some(CLUSTER_IP),
        ports: vec![port(None)],
        ..ServiceView::default()
    }
}

fn endpoint(last: u8, node: &str) -> EndpointView {
    let address = Ipv4Addr::new(10, 244, 0, last);
    EndpointView {
        address,
        ready: true,
        serving: true,
        terminating: false,
        node: Some(node.to_owned()),
    }
}

fn slice(endpoints: Vec<EndpointView>) -> EndpointSliceView {
    let ports = vec![EndpointPortView {
        name: "web".to_owned(),
        protocol: Protocol::Tcp,
        port: 8080,
    }];
    EndpointSliceView {
        service: "s".to_owned(),
        ports,
        endpoints,
    }
}

fn rules(service: &ServiceView, slices: &[EndpointSliceView]) -> BTreeMap<Frontend, FrontendRules> {
    frontends(service, slices.iter(), &node())
}

fn only(service: &ServiceView, slices: &[EndpointSliceView]) -> FrontendRules {
    let rules = rules(service, slices);
    assert_eq!(rules.len(), 1);
    rules.into_values().next().unwrap()
}

fn last_bytes(endpoints: &[Endpoint]) -> Vec<u8> {
    endpoints
        .iter()
        .map(|endpoint| endpoint.address.octets()[3])
        .collect()
}

#[test]
fn a_service_without_endpoints_is_rejected() {
    let rules = only(&service(), &[]);
    assert_eq!((rules.far.len(), rules.refusal), (0, Some(Refusal::Reject)));
}

#[test]
fn endpoints_of_all_slices_are_used_once() {
    let slices = [
        slice(vec![endpoint(1, "here"), endpoint(2, "there")]),
        slice(vec![endpoint(2, "there"), endpoint(3, "there")]),
    ];
    let rules = only(&service(), &slices);
    assert_eq!(last_bytes(&rules.far), [1, 2, 3]);
    assert_eq!(rules.far[0].port, 8080);
    assert_eq!(rules.refusal, None);
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let mut other = slice(vec![endpoint(1, "here")]);
    other.ports[0].name = "metrics".to_owned();
    assert!(only(&service(), &[other]).far.is_empty());
    let mut other = slice(vec![endpoint(1, "here")]);
    other.ports[0].protocol = Protocol::Udp;
    assert!(only(&service(), &[other]).far.is_empty());
}

#[test]
fn a_named_target_port_may_differ_between_slices() {
    let mut second = slice(vec![endpoint(2, "here")]);
    second.ports[0].port = 9090;
    let rules = only(&service(), &[slice(vec![endpoint(1, "here")]), second]);
    assert_eq!(
        rules.far.iter().map(|endpoint| endpoint.port).collect::<Vec<_>>(),
        [8080, 9090]
    );
}

#[test]
fn going_endpoints_are_used_only_when_no_other_is_ready() {
    let unready = EndpointView {
        ready: false,
        serving: false,
        ..endpoint(1, "here")
    };
    let going = EndpointView {
        ready: false,
        terminating: true,
        ..endpoint(2, "here")
    };
    let ready = endpoint(3, "here");
    let with = |endpoints: &[&EndpointView]| {
        let endpoints = endpoints.iter().map(|endpoint| (*endpoint).clone()).collect();
        last_bytes(&only(&service(), &[slice(endpoints)]).far)
    };
    assert_eq!(with(&[&unready, &going, &ready]), [3]);
    assert_eq!(with(&[&unready, &going]), [2]);
    assert_eq!(with(&[&unready]), Vec::<u8>::new());
}

#[test]
fn a_local_internal_policy_drops_without_local_endpoints() {
    let service = ServiceView {
        internal_policy: TrafficPolicy::Local,
        ..service()
    };
    let rules = only(&service, &[slice(vec![endpoint(1, "there")])]);
    assert_eq!(
        (rules.far.len(), rules.near, rules.refusal),
        (0, None, Some(Refusal::Drop))
    );
    let rules = only(
        &service,
        &[slice(vec![endpoint(1, "there"), endpoint(2, "here")])],
    );
    assert_eq!((last_bytes(&rules.far), rules.refusal), (vec![2], None));
}

#[test]
fn a_local_external_policy_leaves_all_endpoints_to_pods_and_the_node() {
    let service = ServiceView {
        cluster_ip: None,
        external_ips: vec![Ipv4Addr::new(203, 0, 113, 1)],
        ports: vec![port(Some(30080))],
        external_policy: TrafficPolicy::Local,
        ..service()
    };
    let rules = rules(&service, &[slice(vec![endpoint(1, "there")])]);
    assert_eq!(rules.len(), 2);
    for rules in rules.values() {
        assert!(rules.far.is_empty());
        assert_eq!(rules.near.as_deref().map(last_bytes), Some(vec![1]));
        assert_eq!(rules.refusal, Some(Refusal::Drop));
    }
}

#[test]
fn only_pods_of_this_node_need_hairpins() {
    let on_host = EndpointView {
        address: NODE_ADDRESS,
        ..endpoint(0, "here")
    };
    let rules = only(
        &service(),
        &[slice(vec![endpoint(1, "here"), endpoint(2, "there"), on_host])],
    );
    assert_eq!(
        rules.hairpins.into_iter().collect::<Vec<_>>(),
        [Ipv4Addr::new(10, 244, 0, 1)]
    );
}

#[test]
fn nothing_changed_is_an_empty_delta() {
    let mut model = Model::new(node());
    model.apply(Change::Service(key("s"), Some(service())));
    assert!(!model.take_delta().is_empty());
    model.apply(Change::Service(key("s"), Some(service())));
    assert!(model.take_delta().is_empty());
}

#[test]
fn a_contested_address_passes_on_when_its_owner_goes() {
    let mut model = Model::new(node());
    model.apply(Change::Service(key("b"), Some(service())));
    model.take_delta();
    model.apply(Change::Service(
        key("a"),
        Some(ServiceView {
            affinity_seconds: Some(9),
            ..service()
        }),
    ));
    let owned_by_a = model.take_all();
    model.apply(Change::Service(key("a"), None));
    model.take_delta();
    model.apply(Change::Service(key("a"), Some(service())));
    model.apply(Change::Service(key("b"), None));
    model.take_delta();
    assert_eq!(owned_by_a.len(), 2, "refusal and cluster address, once");
    assert_eq!(model.take_all().len(), 2);
}

#[test]
fn datagram_clients_of_a_removed_endpoint_are_forgotten() {
    let mut udp = service();
    udp.ports[0].protocol = Protocol::Udp;
    let mut of = slice(vec![endpoint(1, "here")]);
    of.ports[0].protocol = Protocol::Udp;
    let mut model = Model::new(node());
    model.apply(Change::Service(key("s"), Some(udp)));
    model.take_delta();
    model.apply(Change::EndpointSlice(key("s-1"), Some(of)));
    let gained = model.take_delta().stale_connections;
    assert_eq!(
        gained.first().unwrap().answered_by,
        None,
        "those that were told nothing so far"
    );
    model.apply(Change::EndpointSlice(key("s-1"), None));
    let lost = model.take_delta().stale_connections;
    assert_eq!(
        lost.first().unwrap().answered_by,
        Some((Ipv4Addr::new(10, 244, 0, 1), 8080))
    );
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_former_one() {
    let mut model = Model::new(node());
    model.apply(Change::Service(key("s"), Some(service())));
    model.apply(Change::EndpointSlice(
        key("x"),
        Some(slice(vec![endpoint(1, "here")])),
    ));
    let moved = EndpointSliceView {
        service: "t".to_owned(),
        ..slice(vec![endpoint(1, "here")])
    };
    model.apply(Change::EndpointSlice(key("x"), Some(moved)));
    let entries = model.take_all();
    assert!(
        entries.iter().all(|entry| !matches!(entry, Entry::Slot { .. })),
        "{entries:?}"
    );
}

#[test]
fn datagram_connections_of_an_earlier_life_are_sorted_out() {
    let mut udp = ServiceView {
        ports: vec![port(Some(30053))],
        ..service()
    };
    udp.ports[0].protocol = Protocol::Udp;
    let mut of = slice(vec![endpoint(1, "here")]);
    of.ports[0].protocol = Protocol::Udp;
    let mut model = Model::new(node());
    model.apply(Change::Service(key("s"), Some(udp)));
    model.apply(Change::EndpointSlice(key("s-1"), Some(of)));
    model.take_all();
    let pod = |last| (Ipv4Addr::new(10, 244, 0, last), 8080);
    let stale = |destination, answered_by| {
        model
            .stale_among(&[Tracked {
                protocol: 17,
                source: (Ipv4Addr::new(10, 244, 0, 9), 40_000),
                destination,
                answered_by,
            }])
            .len()
    };
    assert_eq!(stale((CLUSTER_IP, 80), pod(1)), 0);
    assert_eq!(stale((CLUSTER_IP, 80), pod(2)), 1);
    assert_eq!(
        stale((CLUSTER_IP, 80), (CLUSTER_IP, 80)),
        1,
        "from before there were endpoints"
    );
    assert_eq!(stale((NODE_ADDRESS, 30053), pod(1)), 0);
    assert_eq!(stale((NODE_ADDRESS, 30053), pod(2)), 1);
    let foreign = (Ipv4Addr::new(203, 0, 113, 1), 30053);
    assert_eq!(stale(foreign, foreign), 0, "not ours");
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let name = prop::sample::select(vec!["s", "t", "u"]);
    let service = (
        name.clone(),
        any::<bool>(),
        10u8..13,
        prop::option::of(30000u16..30003),
        any::<bool>(),
        prop::option::of(1u32..3),
    )
        .prop_map(|(name, exists, address, node_port, local, affinity_seconds)| {
            let policy = if local {
                TrafficPolicy::Local
            } else {
                TrafficPolicy::Cluster
            };
            let view = ServiceView {
                cluster_ip: Some(Ipv4Addr::new(10, 96, 0, address)),
                ports: vec![port(node_port)],
                internal_policy: policy,
                external_policy: policy,
                affinity_seconds,
                ..ServiceView::default()
            };
            Change::Service(key(name), exists.then_some(view))
        });
    let endpoints = prop::collection::vec((1u8..9, any::<bool>(), any::<bool>()), 0..5);
    let slice =
        (name, 0u8..3, any::<bool>(), endpoints).prop_map(|(service, slice_name, exists, endpoints)| {
            let endpoints = endpoints.into_iter().map(|(last, ready, here)| EndpointView {
                ready,
                ..endpoint(last, if here { "here" } else { "there" })
            });
            let view = EndpointSliceView {
                service: service.to_owned(),
                ..slice(endpoints.collect())
            };
            Change::EndpointSlice(key(&format!("slice-{slice_name}")), exists.then_some(view))
        });
    prop::collection::vec(prop_oneof![service, slice], 1..30)
}

proptest! {
    #[test]
    fn deltas_add_up_to_the_whole_and_never_clash(changes in changes(), pause in 1usize..4) {
        let mut stepwise = Model::new(node());
        let mut at_once = Model::new(node());
        let mut kernel: BTreeSet<Entry> = BTreeSet::new();
        for (number, change) in changes.into_iter().enumerate() {
            stepwise.apply(change.clone());
            at_once.apply(change);
            if number % pause == 0 {
                let delta = stepwise.take_delta();
                for entry in &delta.remove {
                    prop_assert!(kernel.remove(entry), "{entry:?} removed but not there");
                }
                for entry in &delta.add {
                    prop_assert!(kernel.insert(*entry), "{entry:?} added twice");
                }
            }
        }
        let delta = stepwise.take_delta();
        for entry in &delta.remove {
            prop_assert!(kernel.remove(entry));
        }
        for entry in &delta.add {
            prop_assert!(kernel.insert(*entry));
        }
        let whole: BTreeSet<Entry> = at_once.take_all().into_iter().collect();
        prop_assert_eq!(&whole, &kernel);
        let again: BTreeSet<Entry> = stepwise.take_all().into_iter().collect();
        prop_assert_eq!(whole, again);
    }
}
