use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::time::Duration;

use cloudeck_net::netlink::{NetlinkSocket, Protocol, Requests};
use cloudeck_net::nftables::NftSocket;
use cloudeck_net::route::{RouteSpec, RouteTarget};
use cloudeck_net::{NetNamespace, RouteSocket};
use cloudeck_netlab::{
    NODE, OUTSIDE, SILENCE, Server, ask_tcp, ask_tcp_within, ask_udp, ask_udp_over, udp_client,
};
use cloudeck_proxy::view::{EndpointView, ServiceView, TrafficPolicy};
use cloudeck_proxy::{Change, Proxy, purge};
use cloudeck_task::Scope;

use crate::rig::{CLUSTER_IP, Rig, endpoint, key, proxy_config, service, spread};

const NODE_PORT: u16 = 30080;

#[tokio::test]
async fn a_cluster_ip_reaches_every_endpoint_from_pods_and_the_node() {
    let rig = Rig::new("clusterip").await;
    let (a, b) = (rig.backend("a", 8080).await, rig.backend("b", 8080).await);
    let client = rig.lab.pod(&rig.network, "client").await;
    rig.tell_service(service(None)).await;
    rig.tell_endpoints(vec![a.endpoint(), b.endpoint()]).await;
    for from in [&client.namespace, rig.node()] {
        let seen = spread(from, CLUSTER_IP, 80, 40);
        assert_eq!(seen.len(), 2, "{seen:?}");
    }
    let answer = ask_udp(&client.namespace, CLUSTER_IP, 80).unwrap();
    assert_eq!(answer.seen_from, client.address.ip, "pods are seen as they are");
}

#[tokio::test]
async fn a_pod_reaches_itself_through_its_service() {
    let rig = Rig::new("hairpin").await;
    let a = rig.backend("a", 8080).await;
    rig.tell_service(service(Some(NODE_PORT))).await;
    rig.tell_endpoints(vec![a.endpoint()]).await;
    assert_eq!(ask_tcp(&a.pod.namespace, CLUSTER_IP, 80).unwrap().seen_from, NODE);
    assert_eq!(ask_udp(&a.pod.namespace, CLUSTER_IP, 80).unwrap().seen_from, NODE);
    assert_eq!(
        ask_tcp(&a.pod.namespace, NODE, NODE_PORT).unwrap().seen_from,
        NODE
    );
}

#[tokio::test]
async fn a_node_port_answers_on_every_address_of_the_node_and_on_loopback() {
    let rig = Rig::new("nodeport").await;
    let a = rig.backend("a", 8080).await;
    let client = rig.lab.pod(&rig.network, "client").await;
    rig.tell_service(service(Some(NODE_PORT))).await;
    rig.tell_endpoints(vec![a.endpoint()]).await;
    for ask in [ask_tcp, ask_udp] {
        assert_eq!(
            ask(&rig.lab.outside, NODE, NODE_PORT).unwrap().seen_from,
            OUTSIDE,
            "not masqueraded"
        );
        assert_eq!(
            ask(&client.namespace, NODE, NODE_PORT).unwrap().seen_from,
            client.address.ip
        );
        assert_eq!(ask(rig.node(), NODE, NODE_PORT).unwrap().server, "a");
        assert_eq!(
            ask(rig.node(), Ipv4Addr::LOCALHOST, NODE_PORT).unwrap().seen_from,
            NODE
        );
        assert!(
            ask(&client.namespace, NODE, 80).is_err(),
            "the service's port is not the node's"
        );
    }
}

#[tokio::test]
async fn loopback_services_of_the_node_are_closed_to_pods_and_the_outside() {
    let rig = Rig::new("guard").await;
    let client = rig.lab.pod(&rig.network, "client").await;
    let secret = Server::start(rig.node(), "secret", 0);
    assert!(
        ask_tcp(&client.namespace, NODE, secret.port()).is_ok(),
        "it is there"
    );
    // A route to the node's loopback range, as an attacker in a pod or next door would have it.
    let loopback = "127.0.0.0/8".parse().unwrap();
    for (namespace, device, gateway) in [
        (&client.namespace, "eth0", client.address.gateway),
        (&rig.lab.outside, "node", NODE),
    ] {
        let mut socket = RouteSocket::open_in(namespace).unwrap();
        let index = socket.link_named(device).unwrap().unwrap().index;
        let open = cloudeck_net::route::LinkChange {
            route_localnet: Some(true),
            ..Default::default()
        };
        socket.change_link(index, &open).unwrap();
        let lo = cloudeck_net::route::LOOPBACK_INDEX;
        let _ = socket.delete_address(lo, Ipv4Addr::LOCALHOST, 8);
        let target = RouteTarget::Gateway(index, gateway);
        socket
            .add_route(&RouteSpec {
                destination: loopback,
                target,
                source: None,
                protocol: 4,
            })
            .unwrap();
        let refused = ask_tcp_within(namespace, Ipv4Addr::LOCALHOST, secret.port(), SILENCE).unwrap_err();
        assert!(
            matches!(refused.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock),
            "{device}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_service_without_endpoints_is_rejected_at_once() {
    let rig = Rig::new("reject").await;
    let client = rig.lab.pod(&rig.network, "client").await;
    rig.tell_service(service(Some(NODE_PORT))).await;
    let refused = |from, address, port| {
        let [tcp, udp] = [ask_tcp, ask_udp].map(|ask| ask(from, address, port).unwrap_err().kind());
        assert_eq!(tcp, ErrorKind::ConnectionRefused, "{address}:{port}");
        // A local process is told by `send` itself.
        let told = [ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied];
        assert!(told.contains(&udp), "{address}:{port} {udp}");
    };
    refused(&client.namespace, CLUSTER_IP, 80);
    refused(rig.node(), CLUSTER_IP, 80);
    refused(&rig.lab.outside, NODE, NODE_PORT);
    refused(rig.node(), Ipv4Addr::LOCALHOST, NODE_PORT);
    refused(&client.namespace, CLUSTER_IP, 81);

    let a = rig.backend("a", 8080).await;
    rig.tell_endpoints(vec![a.endpoint()]).await;
    assert!(ask_tcp(&client.namespace, CLUSTER_IP, 80).is_ok());
    refused(&client.namespace, CLUSTER_IP, 81);
    rig.tell_endpoints(vec![]).await;
    refused(&client.namespace, CLUSTER_IP, 80);
}

#[tokio::test]
async fn sticky_clients_stay_until_their_endpoint_goes() {
    let rig = Rig::new("sticky").await;
    let backends = [
        rig.backend("a", 8080).await,
        rig.backend("b", 8080).await,
        rig.backend("c", 8080).await,
    ];
    let client = rig.lab.pod(&rig.network, "client").await;
    rig.tell_service(ServiceView {
        affinity_seconds: Some(10_800),
        ..service(Some(NODE_PORT))
    })
    .await;
    rig.tell_endpoints(backends.iter().map(super::rig::Backend::endpoint).collect())
        .await;
    for (from, address, port) in [
        (&client.namespace, CLUSTER_IP, 80),
        (&rig.lab.outside, NODE, NODE_PORT),
        (rig.node(), CLUSTER_IP, 80),
    ] {
        assert_eq!(spread(from, address, port, 20).len(), 1);
    }
    let favourite = ask_tcp(&client.namespace, CLUSTER_IP, 80).unwrap().server;
    // More endpoints change nothing for a known client, fewer only if its own goes.
    let more = rig.backend("d", 8080).await;
    let mut all: Vec<_> = backends.iter().map(super::rig::Backend::endpoint).collect();
    all.push(more.endpoint());
    rig.tell_endpoints(all.clone()).await;
    assert_eq!(
        ask_tcp(&client.namespace, CLUSTER_IP, 80).unwrap().server,
        favourite
    );
    let gone = backends
        .iter()
        .find(|backend| backend.server.name() == favourite)
        .unwrap()
        .pod
        .address
        .ip;
    all.retain(|endpoint| endpoint.address != gone);
    rig.tell_endpoints(all).await;
    let next = spread(&client.namespace, CLUSTER_IP, 80, 20);
    assert_eq!(next.len(), 1);
    assert!(!next.contains_key(&favourite));
}

#[tokio::test]
async fn affinity_can_be_turned_on_and_off() {
    let rig = Rig::new("turn").await;
    let (a, b) = (rig.backend("a", 8080).await, rig.backend("b", 8080).await);
    rig.tell_endpoints(vec![a.endpoint(), b.endpoint()]).await;
    for affinity_seconds in [None, Some(60), None, Some(61), Some(60)] {
        rig.tell_service(ServiceView {
            affinity_seconds,
            ..service(None)
        })
        .await;
        let servers = spread(rig.node(), CLUSTER_IP, 80, 40).len();
        assert_eq!(
            servers,
            if affinity_seconds.is_some() { 1 } else { 2 },
            "{affinity_seconds:?}"
        );
    }
}

#[tokio::test]
async fn local_policies_drop_without_local_endpoints_and_keep_pods_served() {
    let rig = Rig::new("local").await;
    let a = rig.backend("a", 8080).await;
    let client = rig.lab.pod(&rig.network, "client").await;
    let elsewhere = EndpointView {
        node: Some("elsewhere".to_owned()),
        ..a.endpoint()
    };
    let external = ServiceView {
        external_policy: TrafficPolicy::Local,
        ..service(Some(NODE_PORT))
    };
    rig.tell_service(external.clone()).await;
    rig.tell_endpoints(vec![elsewhere.clone()]).await;
    let dropped = ask_tcp_within(&rig.lab.outside, NODE, NODE_PORT, SILENCE).unwrap_err();
    assert!(
        matches!(dropped.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock),
        "{dropped}"
    );
    assert!(
        ask_tcp(&client.namespace, NODE, NODE_PORT).is_ok(),
        "pods may use endpoints elsewhere"
    );
    assert!(ask_tcp(rig.node(), NODE, NODE_PORT).is_ok(), "so may the node");
    rig.tell_endpoints(vec![a.endpoint()]).await;
    assert_eq!(
        ask_tcp(&rig.lab.outside, NODE, NODE_PORT).unwrap().seen_from,
        OUTSIDE
    );

    let internal = ServiceView {
        internal_policy: TrafficPolicy::Local,
        ..service(None)
    };
    rig.tell_service(internal).await;
    assert!(ask_tcp(&client.namespace, CLUSTER_IP, 80).is_ok());
    rig.tell_endpoints(vec![elsewhere]).await;
    let dropped = ask_tcp_within(&client.namespace, CLUSTER_IP, 80, SILENCE).unwrap_err();
    assert!(
        matches!(dropped.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock),
        "{dropped}"
    );
}

#[tokio::test]
async fn external_addresses_and_services_without_selectors_work() {
    let rig = Rig::new("external").await;
    let outside = Server::start(&rig.lab.outside, "outside", 8080);
    let on_node = Server::start(rig.node(), "node", 9090);
    let client = rig.lab.pod(&rig.network, "client").await;
    let external = Ipv4Addr::new(203, 0, 113, 7);
    rig.tell_service(ServiceView {
        external_ips: vec![external],
        ..service(None)
    })
    .await;
    // Endpoints that are no pods, in two slices with different ports: outside of the cluster, and the node itself.
    rig.tell_slice(
        "by-hand",
        8080,
        vec![EndpointView {
            node: None,
            ..endpoint(OUTSIDE)
        }],
    )
    .await;
    for address in [CLUSTER_IP, external] {
        let answer = ask_tcp(&client.namespace, address, 80).unwrap();
        assert_eq!(
            (answer.server.as_str(), answer.seen_from),
            (outside.name(), NODE.into())
        );
    }
    rig.tell_slice("node", 9090, vec![endpoint(NODE)]).await;
    let both = spread(&client.namespace, CLUSTER_IP, 80, 40);
    assert_eq!(
        both.into_keys().collect::<BTreeSet<_>>(),
        ["node", "outside"].map(str::to_owned).into()
    );
    assert_eq!(spread(rig.node(), CLUSTER_IP, 80, 40).len(), 2);
    assert_eq!(on_node.port(), 9090);
}

#[tokio::test]
async fn a_datagram_client_on_one_port_follows_the_endpoints() {
    let rig = Rig::new("udp").await;
    let (a, b) = (rig.backend("a", 8080).await, rig.backend("b", 8080).await);
    let client = rig.lab.pod(&rig.network, "client").await;
    let socket = udp_client(&client.namespace);
    rig.tell_service(service(Some(NODE_PORT))).await;
    for (address, port) in [(CLUSTER_IP, 80), (NODE, NODE_PORT)] {
        rig.tell_endpoints(vec![a.endpoint()]).await;
        assert_eq!(ask_udp_over(&socket, address, port).unwrap().server, "a");
        rig.tell_endpoints(vec![b.endpoint()]).await;
        assert_eq!(ask_udp_over(&socket, address, port).unwrap().server, "b");
    }
    rig.tell_endpoints(vec![]).await;
    assert!(ask_udp_over(&socket, CLUSTER_IP, 80).is_err());
    rig.tell_endpoints(vec![a.endpoint()]).await;
    assert_eq!(ask_udp_over(&socket, CLUSTER_IP, 80).unwrap().server, "a");
}

#[tokio::test]
async fn a_restarted_proxy_leaves_the_table_in_force_until_it_knows_everything() {
    let mut rig = Rig::new("restart").await;
    let (a, b) = (rig.backend("a", 8080).await, rig.backend("b", 8080).await);
    rig.tell_service(service(None)).await;
    rig.tell_endpoints(vec![a.endpoint()]).await;
    rig.restart();
    assert!(ask_tcp(rig.node(), CLUSTER_IP, 80).is_ok());
    rig.tell_service(service(None)).await;
    rig.tell_endpoints(vec![b.endpoint()]).await;
    assert_eq!(ask_tcp(rig.node(), CLUSTER_IP, 80).unwrap().server, "a");
    rig.tell(Change::Synced).await;
    assert_eq!(ask_tcp(rig.node(), CLUSTER_IP, 80).unwrap().server, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_removes_comes_back_by_itself() {
    let rig = Rig::new("flushed").await;
    let a = rig.backend("a", 8080).await;
    rig.tell_service(service(None)).await;
    rig.tell_endpoints(vec![a.endpoint()]).await;
    let mut progress = rig.proxy.progress();
    progress.mark_unchanged();
    purge("flushed", Some(rig.node())).unwrap();
    assert!(progress.changed().await.is_ok());
    assert!(ask_tcp(rig.node(), CLUSTER_IP, 80).is_ok());
}

#[tokio::test]
async fn datagrams_to_an_endpoint_that_went_unseen_find_another_one() {
    let mut rig = Rig::new("unseen").await;
    let (a, b) = (rig.backend("a", 8080).await, rig.backend("b", 8080).await);
    let client = rig.lab.pod(&rig.network, "client").await;
    let socket = udp_client(&client.namespace);
    rig.tell_service(service(None)).await;
    rig.tell_endpoints(vec![a.endpoint()]).await;
    assert_eq!(ask_udp_over(&socket, CLUSTER_IP, 80).unwrap().server, "a");
    rig.restart();
    rig.tell_service(service(None)).await;
    rig.tell_endpoints(vec![b.endpoint()]).await;
    rig.tell(Change::Synced).await;
    assert_eq!(ask_udp_over(&socket, CLUSTER_IP, 80).unwrap().server, "b");
}

#[tokio::test]
async fn a_thousand_services_load_and_one_change_is_quick() {
    let rig = Rig::new("thousand").await;
    let a = rig.backend("a", 8080).await;
    let started = std::time::Instant::now();
    for number in 0..1000_u16 {
        let [high, low] = number.to_be_bytes();
        let cluster_ip = Some(Ipv4Addr::new(10, 96, 1 + high, low));
        let view = ServiceView {
            cluster_ip,
            ..service(None)
        };
        assert!(
            rig.proxy
                .tell(Change::Service(key(&format!("n-{number}")), Some(view)))
                .await
        );
    }
    assert!(rig.proxy.wait_for_changes(1001).await);
    println!("a thousand services: {:?}", started.elapsed());
    let started = std::time::Instant::now();
    assert!(
        rig.proxy
            .tell(Change::Service(key("s"), Some(service(None))))
            .await
    );
    let slice = cloudeck_proxy::view::EndpointSliceView {
        service: "s".to_owned(),
        ports: vec![cloudeck_proxy::view::EndpointPortView {
            name: String::new(),
            protocol: cloudeck_proxy::view::Protocol::Tcp,
            port: 8080,
        }],
        endpoints: vec![a.endpoint()],
    };
    assert!(
        rig.proxy
            .tell(Change::EndpointSlice(key("s-1"), Some(slice)))
            .await
    );
    assert!(rig.proxy.wait_for_changes(1003).await);
    println!("one more: {:?}", started.elapsed());
    assert!(ask_tcp(rig.node(), CLUSTER_IP, 80).is_ok());
    println!("and its first connection: {:?}", started.elapsed());
}

#[tokio::test]
async fn a_table_that_could_not_be_installed_is_tried_again_without_a_change() {
    let rig = Rig::new("retry").await;
    let config = proxy_config(&rig.lab);
    rig.stop().await;
    purge(&config.instance, Some(rig.node())).unwrap();
    // A table of another program's own keeps us out until that program ends, which the kernel tells nobody of.
    let stranger = own_table(rig.node(), &format!("cloudeck-{}-services", config.instance));
    let scope = Scope::root("test");
    let proxy = Proxy::start(&config, &scope).unwrap();
    proxy.tell(Change::Synced).await;
    let mut progress = proxy.progress();
    progress.wait_for(|progress| progress.failing).await.unwrap();
    drop(stranger);
    let installed = progress.wait_for(|progress| !progress.failing);
    let installed = tokio::time::timeout(Duration::from_secs(20), installed).await;
    installed.expect("another attempt").unwrap();
    scope.request_shutdown();
}

/// Makes a table that only the socket returned may touch, and that goes with it.
fn own_table(namespace: &NetNamespace, name: &str) -> NetlinkSocket {
    const SUBSYSTEM: u16 = 10 << 8;
    const NEW_TABLE: u16 = SUBSYSTEM;
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;
    const CREATE: u16 = 0x400;
    const OWNER: u32 = 2;
    let mut socket = NetlinkSocket::open_in(namespace, Protocol::Netfilter).unwrap();
    let mut batch = Requests::new();
    batch.push(BATCH_BEGIN, 0, &[0, 0, 0, 10], |_| {});
    batch.push(NEW_TABLE, CREATE, &[2, 0, 0, 0], |w| {
        w.text(1, name).be32(2, OWNER);
    });
    batch.push(BATCH_END, 0, &[0, 0, 0, 10], |_| {});
    socket.transact(batch, 1).unwrap();
    socket
}

#[tokio::test]
async fn purge_removes_the_table_and_is_content_without_one() {
    let rig = Rig::new("purge").await;
    rig.tell_service(service(None)).await;
    let tables = || NftSocket::open_in(rig.node()).unwrap().tables().unwrap();
    assert!(tables().contains(&"cloudeck-purge-services".to_owned()));
    purge("purge", Some(rig.node())).unwrap();
    assert_eq!(tables(), ["cloudeck-purge-pods"]);
    purge("purge", Some(rig.node())).unwrap();
}
