//! Root tests of the pod network, in network namespaces that they make themselves.
#![allow(
    clippy::unwrap_used,
    reason = "a test's functions outside of #[test] count as product code for the lint"
)]

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::Arc;

use cloudeck_net::nftables::{Batch, NftSocket, NftWatch};
use cloudeck_net::route::{LinkChange, MacAddress, RouteSpec, RouteTarget, VethSpec};
use cloudeck_net::{NetNamespace, RouteSocket};
use cloudeck_netlab::{
    Lab, NODE, OUTSIDE, PATIENCE, SILENCE, Server, ask_tcp, ask_tcp_as, ask_tcp_within, ask_udp, path_of,
};
use cloudeck_network::{
    AttachError, AttachRequest, HostPort, InstanceNames, NetworkStartError, PodNetwork, purge,
};

fn links(namespace: &NetNamespace) -> Vec<String> {
    RouteSocket::open_in(namespace)
        .unwrap()
        .links()
        .unwrap()
        .into_iter()
        .map(|link| link.name)
        .collect()
}

fn forwarding(namespace: &NetNamespace) -> String {
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    namespace.run(read).unwrap().trim().to_owned()
}

fn request<'a>(netns: &'a std::path::Path, pod_uid: &'a str) -> AttachRequest<'a> {
    AttachRequest {
        netns,
        pod_uid,
        requested: None,
        host_ports: &[],
    }
}

#[tokio::test]
async fn pods_reach_each_other_the_node_and_the_outside() {
    let lab = Lab::new("reach");
    let network = lab.start_network().await;
    let (a, b) = (lab.pod(&network, "a").await, lab.pod(&network, "b").await);
    let on_b = Server::start(&b.namespace, "b", 0);
    let on_node = Server::start(&lab.node, "node", 0);
    let on_outside = Server::start(&lab.outside, "outside", 0);

    let seen = ask_tcp(&a.namespace, b.address.ip, on_b.port()).unwrap();
    assert_eq!((seen.server.as_str(), seen.seen_from), ("b", a.address.ip.into()));
    assert_eq!(ask_udp(&a.namespace, b.address.ip, on_b.port()).unwrap(), seen);
    assert_eq!(
        ask_tcp(&lab.node, b.address.ip, on_b.port()).unwrap().seen_from,
        NODE
    );
    assert_eq!(
        ask_tcp(&a.namespace, NODE, on_node.port()).unwrap().seen_from,
        a.address.ip
    );
    let outward = ask_tcp(&a.namespace, OUTSIDE, on_outside.port()).unwrap();
    assert_eq!(outward.seen_from, NODE, "masqueraded");
    assert_eq!(a.address.mtu_bytes, 1400, "as the uplink");
    let ipv6 = a
        .namespace
        .run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default())
        .unwrap();
    assert!(!ipv6.contains("eth0"), "{ipv6}");
}

#[tokio::test]
async fn a_pod_cannot_send_under_another_address() {
    let lab = Lab::new("spoof");
    let network = lab.start_network().await;
    let a = lab.pod(&network, "a").await;
    let server = Server::start(&lab.node, "node", 0);
    let foreign = Ipv4Addr::new(10, 244, 0, 200);
    let mut inside = RouteSocket::open_in(&a.namespace).unwrap();
    let index = inside.link_named("eth0").unwrap().unwrap().index;
    inside.add_address(index, foreign, 32, 0).unwrap();
    assert!(ask_tcp_as(&a.namespace, a.address.ip, NODE, server.port(), PATIENCE).is_ok());
    // A way back, so that only the check of the source stands in between.
    let mut host = RouteSocket::open_in(&lab.node).unwrap();
    let uplink = host.link_named("uplink").unwrap().unwrap().index;
    let destination = "10.244.0.200/32".parse().unwrap();
    let target = RouteTarget::Link(uplink);
    host.add_route(&RouteSpec {
        destination,
        target,
        source: None,
        protocol: 4,
    })
    .unwrap();
    let before = rejected_sources(&lab.node);
    assert!(ask_tcp_as(&a.namespace, foreign, NODE, server.port(), SILENCE).is_err());
    assert!(rejected_sources(&lab.node) > before);
}

/// How many packets the kernel has dropped for where they came from.
fn rejected_sources(namespace: &NetNamespace) -> u64 {
    let text = namespace
        .run(|| std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap())
        .unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names
        .split(' ')
        .position(|name| name == "IPReversePathFilter")
        .unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_detached_pod_leaves_no_link_and_its_address_rests() {
    let lab = Lab::new("detach");
    let network = lab.start_network().await;
    let before = links(&lab.node);
    let a = lab.pod(&network, "a").await;
    assert_eq!(network.list().len(), 1);
    assert!(network.detach("a").await.unwrap());
    assert!(!network.detach("a").await.unwrap());
    assert_eq!(links(&lab.node), before);
    assert_eq!(network.address_of("a"), None);
    let b = lab.pod(&network, "b").await;
    assert_ne!(a.address.ip, b.address.ip);
}

#[tokio::test]
async fn attaching_again_is_the_same_and_a_new_namespace_keeps_the_address() {
    let lab = Lab::new("again");
    let network = lab.start_network().await;
    let first = NetNamespace::create().unwrap();
    let address = network.attach(request(&path_of(&first), "a")).await.unwrap();
    assert_eq!(
        network.attach(request(&path_of(&first), "a")).await.unwrap(),
        address
    );

    let second = NetNamespace::create().unwrap();
    assert_eq!(
        network.attach(request(&path_of(&second), "a")).await.unwrap(),
        address
    );
    assert!(!links(&first).contains(&"eth0".to_owned()));
    let server = Server::start(&second, "a", 0);
    assert!(ask_tcp(&lab.node, address.ip, server.port()).is_ok());
}

#[tokio::test]
async fn a_restarted_daemon_adopts_running_pods_and_removes_half_made_links() {
    let lab = Lab::new("adopt");
    let network = lab.start_network().await;
    let a = lab.pod(&network, "a").await;
    let server = Server::start(&a.namespace, "a", 0);
    drop(network);
    // As if the daemon was killed between making a link and finishing it.
    let other = NetNamespace::create().unwrap();
    let half = InstanceNames::new("adopt").unwrap().pod_link("b");
    let mac = MacAddress([2, 0, 0, 0, 0, 9]);
    let spec = VethSpec {
        name: &half,
        mac,
        peer_name: "eth0",
        peer_mac: mac,
        mtu_bytes: 1400,
    };
    RouteSocket::open_in(&lab.node)
        .unwrap()
        .add_veth(&spec, other.as_fd())
        .unwrap();

    let network = lab.start_network().await;
    assert_eq!(network.address_of("a"), Some(a.address.clone()));
    assert!(!links(&lab.node).contains(&half));
    assert!(ask_tcp(&lab.node, a.address.ip, server.port()).is_ok());
    let b = lab.pod(&network, "b").await;
    assert_ne!(a.address.ip, b.address.ip);
    assert!(network.detach("a").await.unwrap());
}

#[tokio::test]
async fn a_restarted_daemon_mends_the_ways_to_its_pods() {
    let lab = Lab::new("mend");
    let network = lab.start_network().await;
    let a = lab.pod(&network, "a").await;
    let server = Server::start(&a.namespace, "a", 0);
    drop(network);
    // As when the node gets another address: with the old one go the routes that prefer it.
    let mut host = RouteSocket::open_in(&lab.node).unwrap();
    let index = host.link_named("uplink").unwrap().unwrap().index;
    let other = Ipv4Addr::new(192, 0, 2, 9);
    host.delete_address(index, NODE, 24).unwrap();
    host.add_address(index, other, 24, libc::RT_SCOPE_UNIVERSE)
        .unwrap();
    assert!(ask_tcp_within(&lab.node, a.address.ip, server.port(), SILENCE).is_err());
    let config = cloudeck_network::NetworkConfig {
        node_ip: other,
        ..lab.config.clone()
    };
    let _network = PodNetwork::start(config).await.unwrap();
    assert_eq!(
        ask_tcp(&lab.node, a.address.ip, server.port()).unwrap().seen_from,
        other
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_removes_comes_back_by_itself() {
    let lab = Lab::new("table");
    let network = lab.start_network().await;
    let scope = cloudeck_task::Scope::root("test");
    network.keep_table(&scope).unwrap();
    let mut watch = NftWatch::open(lab.config.namespace.as_deref()).unwrap();
    let mut nft = NftSocket::open_in(&lab.node).unwrap();
    let table = InstanceNames::new("table").unwrap().pod_table();
    let mut batch = Batch::new();
    batch.delete_table(&table);
    nft.commit(batch).unwrap();
    // Once by us, and once more when it is renewed.
    for _ in 0..2 {
        watch.next().await.unwrap();
    }
    assert_eq!(nft.tables().unwrap(), [table]);
    scope.request_shutdown();
}

#[tokio::test]
async fn purge_leaves_nothing_even_with_the_daemon_dead() {
    let lab = Lab::new("purge");
    let mut route = RouteSocket::open_in(&lab.node).unwrap();
    let mut nft = NftSocket::open_in(&lab.node).unwrap();
    let before = (
        links(&lab.node),
        route.addresses().unwrap(),
        route.routes().unwrap(),
        forwarding(&lab.node),
    );
    assert_eq!(before.3, "0");

    let network = lab.start_network().await;
    let _a = lab.pod(&network, "a").await;
    drop(network);
    assert_eq!(forwarding(&lab.node), "1");
    purge(
        "purge",
        lab.config.state_dir.clone(),
        lab.config.namespace.clone(),
    )
    .await
    .unwrap();

    let after = (
        links(&lab.node),
        route.addresses().unwrap(),
        route.routes().unwrap(),
        forwarding(&lab.node),
    );
    assert_eq!(after, before);
    assert!(nft.tables().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(&lab.config.state_dir).unwrap().count(), 0);
    purge(
        "purge",
        lab.config.state_dir.clone(),
        lab.config.namespace.clone(),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn purge_finds_what_is_ours_without_the_record() {
    let lab = Lab::new("lost");
    let mut route = RouteSocket::open_in(&lab.node).unwrap();
    let before = (
        links(&lab.node),
        route.addresses().unwrap(),
        route.routes().unwrap(),
    );
    let network = lab.start_network().await;
    let _a = lab.pod(&network, "a").await;
    drop(network);
    let empty = tempfile::tempdir().unwrap();
    purge("lost", empty.path().to_owned(), lab.config.namespace.clone())
        .await
        .unwrap();
    assert_eq!(
        (
            links(&lab.node),
            route.addresses().unwrap(),
            route.routes().unwrap()
        ),
        before
    );
}

/// Two instances on one host, purged in the order given: only the last purge puts the settings back.
async fn check_shared_settings(first_to_go: &str, last_to_go: &str) {
    let lab = Lab::new("one");
    let _one = lab.start_network().await;
    let state = tempfile::tempdir().unwrap();
    let two = cloudeck_network::NetworkConfig {
        instance: "two".to_owned(),
        pod_cidr: "10.245.0.0/24".parse().unwrap(),
        cluster_cidr: "10.245.0.0/16".parse().unwrap(),
        service_cidr: "10.97.0.0/16".parse().unwrap(),
        state_dir: state.path().to_owned(),
        ..lab.config.clone()
    };
    PodNetwork::start(two).await.unwrap();
    let go = async |name: &str| {
        let own = if name == "two" {
            state.path()
        } else {
            &lab.config.state_dir
        };
        purge(name, own.to_owned(), lab.config.namespace.clone())
            .await
            .unwrap();
    };
    go(first_to_go).await;
    assert_eq!(forwarding(&lab.node), "1");
    go(last_to_go).await;
    assert_eq!(forwarding(&lab.node), "0");
}

#[tokio::test]
async fn the_last_of_two_instances_puts_the_shared_settings_back() {
    check_shared_settings("two", "one").await;
}

#[tokio::test]
async fn the_later_instance_knows_what_the_earlier_one_found() {
    check_shared_settings("one", "two").await;
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_with_a_clear_error() {
    let lab = Lab::new("refuse");
    let network = lab.start_network().await;
    let namespace = NetNamespace::create().unwrap();
    let netns = path_of(&namespace);
    let port = HostPort {
        host_port: 8080,
        container_port: 80,
    };
    let refused = network
        .attach(AttachRequest {
            host_ports: &[port],
            ..request(&netns, "a")
        })
        .await;
    assert!(matches!(refused, Err(AttachError::HostPort(8080))));
    let foreign = Some(Ipv4Addr::new(10, 9, 9, 9));
    let refused = network
        .attach(AttachRequest {
            requested: foreign,
            ..request(&netns, "a")
        })
        .await;
    assert!(matches!(refused, Err(AttachError::Allocate(_))));
    let refused = network
        .attach(request(std::path::Path::new("/nowhere"), "a"))
        .await;
    assert!(matches!(refused, Err(AttachError::Namespace(_))));
    assert!(network.list().is_empty());

    let overlapping = cloudeck_network::NetworkConfig {
        service_cidr: "10.244.128.0/24".parse().unwrap(),
        ..lab.config.clone()
    };
    let refused = PodNetwork::start(overlapping).await;
    assert!(matches!(refused, Err(NetworkStartError::OverlappingRanges(..))));
}

#[tokio::test]
async fn a_machine_without_an_address_takes_one_until_the_purge() {
    let namespace = Arc::new(NetNamespace::create().unwrap());
    let state = tempfile::tempdir().unwrap();
    let find = || cloudeck_network::ensure_node_address(state.path(), Some(Arc::clone(&namespace))).unwrap();
    let made = find();
    assert!(made.made && cloudeck_net::route::is_usable_node_address(made.ip));
    assert_eq!(find(), made);
    purge("lonely", state.path().to_owned(), Some(Arc::clone(&namespace)))
        .await
        .unwrap();
    let addresses = RouteSocket::open_in(&namespace).unwrap().addresses().unwrap();
    assert!(addresses.iter().all(|address| address.address != made.ip));
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_pods_at_once_get_thirty_addresses() {
    let lab = Lab::new("thirty");
    let network = lab.start_network().await;
    let namespaces: Vec<_> = (0..30).map(|_| NetNamespace::create().unwrap()).collect();
    let started = std::time::Instant::now();
    let mut addresses = Vec::new();
    let mut waiting = Vec::new();
    for (number, namespace) in namespaces.iter().enumerate() {
        let (network, netns) = (network.clone(), path_of(namespace));
        waiting.push(async move {
            network
                .attach(request(&netns, &format!("pod-{number}")))
                .await
                .unwrap()
                .ip
        });
    }
    for ip in join_all(waiting).await {
        addresses.push(ip);
    }
    println!("thirty pods connected in {:?}", started.elapsed());
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 30);
}

/// Runs all at once.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in pinned.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(cx) {
                std::task::Poll::Ready(value) => *output = Some(value),
                std::task::Poll::Pending => pending = true,
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    pinned.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_go_together_do_not_wait_for_each_other() {
    let lab = Lab::new("together");
    let network = lab.start_network().await;
    let before = links(&lab.node);
    let mut pods = Vec::new();
    for number in 0..30 {
        pods.push(lab.pod(&network, &format!("pod-{number}")).await);
    }
    let started = std::time::Instant::now();
    let going = (0..30).map(|number| {
        let network = network.clone();
        async move { network.detach(&format!("pod-{number}")).await.unwrap() }
    });
    assert!(
        join_all(going.collect())
            .await
            .into_iter()
            .all(|detached| detached)
    );
    println!("thirty pods disconnected in {:?}", started.elapsed());
    assert_eq!(links(&lab.node), before);
}

/// The news that a pod's device runs may come at any moment, also while the kernel still acknowledges the question;
/// whoever misses it waits for five seconds in vain. The slow machine of the cgroup v2 lane shows it every time.
#[test]
fn no_news_of_a_device_is_missed() {
    let come_and_go = || {
        let (near, far) = (NetNamespace::create().unwrap(), NetNamespace::create().unwrap());
        let mut here = RouteSocket::open_in(&near).unwrap();
        let pair = VethSpec {
            name: "host",
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            peer_name: "eth0",
            peer_mac: MacAddress([2, 0, 0, 0, 0, 2]),
            mtu_bytes: 1400,
        };
        let up = LinkChange {
            up: true,
            ..LinkChange::default()
        };
        for _ in 0..100 {
            here.add_veth(&pair, far.as_fd()).unwrap();
            let mut there = RouteSocket::open_in(&far).unwrap();
            let inside = there.link_named(pair.peer_name).unwrap().unwrap().index;
            there.change_link(inside, &up).unwrap();
            let index = here.link_named(pair.name).unwrap().unwrap().index;
            here.change_link(index, &up).unwrap();
            there.wait_until_running(inside).unwrap();
            here.delete_link(index).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(come_and_go);
        }
    });
}
