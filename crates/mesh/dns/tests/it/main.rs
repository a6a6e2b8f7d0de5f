//! Root tests of the DNS server: a node, a pod that asks, and a name server outside, each in a network namespace.
#![allow(
    clippy::unwrap_used,
    reason = "a test's functions outside of #[test] count as product code for the lint"
)]

mod script;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Client, Informer, WatchEvent};
use cloudeck_dns::{Dns, DnsConfig, Upstream};
use cloudeck_net::{Ipv4Cidr, NetNamespace};
use cloudeck_netlab::{Lab, NODE, OUTSIDE, PATIENCE, Pod, PodNetwork, SILENCE};
use cloudeck_task::Scope;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use script::Script;

const WORLD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

struct Rig {
    lab: Lab,
    pod: Pod,
    dns: Dns,
    script: Arc<Script>,
    services: Informer,
    slices: Informer,
    _network: PodNetwork,
    _scope: Scope,
}

impl Rig {
    async fn new(instance: &str) -> Self {
        let lab = Lab::new(instance);
        let network = lab.start_network().await;
        let pod = lab.pod(&network, "client").await;
        let upstream = Upstream::Servers(vec![serve_world(&lab.outside)]);
        let config = DnsConfig {
            listen: (NODE, 0).into(),
            cluster_domain: "cluster.local".to_owned(),
            service_ip: [10, 96, 0, 10].into(),
            clients: vec![lab.config.cluster_cidr, Ipv4Cidr::new(NODE, 32).unwrap()],
            upstream,
            namespace: lab.config.namespace.clone(),
        };
        let scope = Scope::root("test");
        let dns = Dns::start(config, &scope).unwrap();
        let script = Arc::new(Script::default());
        let client = Client::new(Arc::clone(&script) as Arc<dyn cloudeck_client::Transport>);
        let services = Informer::start(&scope, client.clone(), cloudeck_dns::services());
        let slices = Informer::start(&scope, client, cloudeck_dns::endpoint_slices());
        dns.follow(services.clone(), slices.clone(), &scope);
        dns.ready().await;
        Self {
            lab,
            pod,
            dns,
            script,
            services,
            slices,
            _network: network,
            _scope: scope,
        }
    }

    async fn tell_service(&self, name: &str, spec: &str) {
        self.script
            .services(WatchEvent::Added(script::object(
                name,
                "{}",
                &format!(r#""spec":{spec}"#),
            )))
            .await;
        while self
            .services
            .get(&cloudeck_machinery::ObjectKey::new("shop", name))
            .is_none()
        {
            self.services.subscribe().next().await;
        }
    }

    async fn tell_slice(&self, name: &str, service: &str, rest: &str) {
        let labels = format!(r#"{{"kubernetes.io/service-name":"{service}"}}"#);
        let rest = format!(r#""addressType":"IPv4",{rest}"#);
        self.script
            .slices(WatchEvent::Added(script::object(name, &labels, &rest)))
            .await;
        while self
            .slices
            .get(&cloudeck_machinery::ObjectKey::new("shop", name))
            .is_none()
        {
            self.slices.subscribe().next().await;
        }
    }

    /// Asks until the answer has addresses, as the zone learns a moment after the informer.
    async fn ask(&self, name: &str) -> Vec<IpAddr> {
        loop {
            let answer = by_udp(
                &self.pod.namespace,
                self.dns.address(),
                &question(name, RecordType::A),
            )
            .unwrap();
            if !answer.answers.is_empty() {
                return addresses(&answer);
            }
            tokio::task::yield_now().await;
        }
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    question
}

fn by_udp(from: &NetNamespace, server: SocketAddr, question: &Message) -> std::io::Result<Message> {
    by_udp_within(from, server, question, PATIENCE)
}

fn by_udp_within(
    from: &NetNamespace,
    server: SocketAddr,
    question: &Message,
    patience: Duration,
) -> std::io::Result<Message> {
    let socket = from
        .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .unwrap()?;
    socket.set_read_timeout(Some(patience))?;
    socket.send_to(&question.to_vec().unwrap(), server)?;
    let mut buffer = [0; 4096];
    let (length, peer) = socket.recv_from(&mut buffer)?;
    assert_eq!(peer, server, "answers come from where questions went");
    Ok(Message::from_vec(&buffer[..length]).unwrap())
}

fn by_tcp(from: &NetNamespace, server: SocketAddr, question: &Message) -> Message {
    let mut stream = from.run(|| TcpStream::connect(server)).unwrap().unwrap();
    let bytes = question.to_vec().unwrap();
    stream
        .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(&bytes).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut buffer).unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    let of = |record: &Record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    };
    answer.answers.iter().filter_map(of).collect()
}

/// A name server outside that knows one address for every name, by UDP and TCP. Its threads end with the process.
fn serve_world(outside: &NetNamespace) -> SocketAddr {
    let open = || {
        let tcp = TcpListener::bind((OUTSIDE, 53)).unwrap();
        (UdpSocket::bind((OUTSIDE, 53)).unwrap(), tcp)
    };
    let (udp, tcp) = outside.run(open).unwrap();
    let answer = |bytes: &[u8]| {
        let question = Message::from_vec(bytes).unwrap();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        let name = question.queries[0].name().clone();
        answer.add_queries(question.queries.clone());
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A(WORLD))));
        answer.to_vec().unwrap()
    };
    let address = udp.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answer(&buffer[..length]), peer);
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut buffer).unwrap();
            let bytes = answer(&buffer);
            stream
                .write_all(&u16::try_from(bytes.len()).unwrap().to_be_bytes())
                .unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_finds_services_and_headless_endpoints() {
    let rig = Rig::new("services").await;
    rig.tell_service(
        "web",
        r#"{"clusterIP":"10.96.0.20","ports":[{"name":"http","port":80}]}"#,
    )
    .await;
    rig.tell_service(
        "db",
        r#"{"clusterIP":"None","ports":[{"name":"sql","port":5432}]}"#,
    )
    .await;
    let endpoints = r#""ports":[{"name":"sql","port":5432}],"endpoints":[{"addresses":["10.244.0.7"],"hostname":"db-0"}]"#;
    rig.tell_slice("db-1", "db", endpoints).await;
    assert_eq!(
        rig.ask("Web.shop.svc.cluster.local.").await,
        [IpAddr::from([10, 96, 0, 20])]
    );
    assert_eq!(
        rig.ask("db-0.db.shop.svc.cluster.local.").await,
        [IpAddr::from([10, 244, 0, 7])]
    );

    let srv = question("_sql._tcp.db.shop.svc.cluster.local.", RecordType::SRV);
    let answer = by_tcp(&rig.pod.namespace, rig.dns.address(), &srv);
    assert!(answer.metadata.authoritative);
    assert_eq!((answer.answers.len(), answer.additionals.len()), (1, 1));
    let RData::SRV(record) = &answer.answers[0].data else {
        panic!("{answer:?}")
    };
    assert_eq!(
        (record.port, record.target.to_ascii().as_str()),
        (5432, "db-0.db.shop.svc.cluster.local.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_do_not_exist_and_other_types_have_no_records() {
    let rig = Rig::new("unknown").await;
    rig.tell_service("web", r#"{"clusterIP":"10.96.0.20"}"#).await;
    rig.ask("web.shop.svc.cluster.local.").await;
    for (name, kind, code) in [
        (
            "nobody.shop.svc.cluster.local.",
            RecordType::A,
            ResponseCode::NXDomain,
        ),
        (
            "web.shop.svc.cluster.local.",
            RecordType::AAAA,
            ResponseCode::NoError,
        ),
    ] {
        let answer = by_udp(&rig.pod.namespace, rig.dns.address(), &question(name, kind)).unwrap();
        assert_eq!(answer.metadata.response_code, code);
        assert!(answer.answers.is_empty());
        assert_eq!(
            answer.authorities[0].record_type(),
            RecordType::SOA,
            "so that it may be remembered"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_names_are_asked_for_outside() {
    let rig = Rig::new("forward").await;
    assert_eq!(rig.ask("www.example.com.").await, [IpAddr::V4(WORLD)]);
    let example = question("www.example.com.", RecordType::A);
    assert_eq!(
        addresses(&by_tcp(&rig.pod.namespace, rig.dns.address(), &example)),
        [IpAddr::V4(WORLD)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_name_is_followed_to_its_address() {
    let rig = Rig::new("alias").await;
    rig.tell_service(
        "old",
        r#"{"type":"ExternalName","externalName":"legacy.example.com"}"#,
    )
    .await;
    assert_eq!(rig.ask("old.shop.svc.cluster.local.").await, [IpAddr::V4(WORLD)]);
    let old = question("old.shop.svc.cluster.local.", RecordType::A);
    let answer = by_udp(&rig.pod.namespace, rig.dns.address(), &old).unwrap();
    assert_eq!(answer.answers[0].record_type(), RecordType::CNAME);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_is_cut_and_whole_by_tcp() {
    let rig = Rig::new("cut").await;
    let all: Vec<_> = (1..=100)
        .map(|n| format!(r#"{{"addresses":["10.244.0.{n}"]}}"#))
        .collect();
    rig.tell_service("big", r#"{"clusterIP":"None"}"#).await;
    rig.tell_slice(
        "big-1",
        "big",
        &format!(r#""ports":[],"endpoints":[{}]"#, all.join(",")),
    )
    .await;
    rig.ask("10-244-0-9.big.shop.svc.cluster.local.").await;
    let mut big = question("big.shop.svc.cluster.local.", RecordType::A);
    let cut = by_udp(&rig.pod.namespace, rig.dns.address(), &big).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    big.set_edns(edns);
    let still_cut = by_udp(&rig.pod.namespace, rig.dns.address(), &big).unwrap();
    assert!(still_cut.metadata.truncation && still_cut.edns.is_some());
    assert_eq!(
        by_tcp(&rig.pod.namespace, rig.dns.address(), &big).answers.len(),
        100
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_answered() {
    let rig = Rig::new("strangers").await;
    let example = question("www.example.com.", RecordType::A);
    assert!(by_udp(&rig.lab.node, rig.dns.address(), &example).is_ok());
    assert!(by_udp_within(&rig.lab.outside, rig.dns.address(), &example, SILENCE).is_err());
}
