//! Against name servers that the tests run on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloudeck_task::Scope;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

type Respond = dyn Fn(&Message, bool) -> Vec<Message> + Send + Sync;

/// A server of both protocols on one port; `respond` is told whether the question came by TCP.
struct TestServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    scope: Scope,
}

impl TestServer {
    async fn start(respond: impl Fn(&Message, bool) -> Vec<Message> + Send + Sync + 'static) -> Self {
        let respond: Arc<Respond> = Arc::new(respond);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let (scope, asked) = (Scope::root("dns"), Arc::new(Mutex::new(Vec::new())));
        let (by_udp, log) = (Arc::clone(&respond), Arc::clone(&asked));
        scope.spawn_until_shutdown("udp", async move {
            let mut buffer = [0; 512];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                log.lock().unwrap().push(question.queries[0].name().to_string());
                for answer in by_udp(&question, false) {
                    udp.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
                }
            }
        });
        scope.spawn_until_shutdown("tcp", async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut buffer).await.unwrap();
                for answer in respond(&Message::from_vec(&buffer).unwrap(), true) {
                    let bytes = answer.to_vec().unwrap();
                    stream.write_u16(bytes.len() as u16).await.unwrap();
                    stream.write_all(&bytes).await.unwrap();
                }
            }
        });
        Self {
            address,
            asked,
            scope,
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.asked.lock().unwrap().clone();
        names.dedup();
        names
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.scope.request_shutdown();
    }
}

fn reply(question: &Message) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.queries.clone_from(&question.queries);
    answer
}

fn refuse(question: &Message, code: ResponseCode) -> Message {
    let mut answer = reply(question);
    answer.metadata.response_code = code;
    answer
}

/// An answer to an A question; empty to others.
fn address(question: &Message, last: u8) -> Message {
    let mut answer = reply(question);
    let asked = &question.queries[0];
    if asked.query_type() == RecordType::A {
        let real = Name::from_ascii("real.example.").unwrap();
        answer.answers = vec![
            Record::from_rdata(asked.name().clone(), 60, RData::CNAME(CNAME(real.clone()))),
            Record::from_rdata(real, 60, RData::A(A(Ipv4Addr::new(10, 0, 0, last)))),
        ];
    }
    answer
}

/// Asks servers that answer.
fn resolver(servers: &[SocketAddr], search: &[&str]) -> Resolver {
    resolver_with(servers, search, Duration::from_secs(10), 1)
}

fn resolver_with(servers: &[SocketAddr], search: &[&str], timeout: Duration, attempts: u32) -> Resolver {
    let conf = ResolvConf {
        nameservers: servers.to_vec(),
        search: search.iter().map(ToString::to_string).collect(),
        ndots: 1,
        timeout,
        attempts,
    };
    Resolver::fixed(Hosts::parse("10.1.1.1 in-hosts\n"), conf)
}

#[tokio::test]
async fn an_alias_is_followed_and_files_come_before_servers() {
    let server = TestServer::start(|question, _| vec![address(question, 7)]).await;
    let resolver = resolver(&[server.address], &[]);
    let found = resolver.lookup("www.example").await.unwrap();
    assert_eq!(found, [IpAddr::from([10, 0, 0, 7])]);
    assert_eq!(
        resolver.lookup("in-hosts").await.unwrap(),
        [IpAddr::from([10, 1, 1, 1])]
    );
    assert_eq!(
        resolver.lookup("[::1]").await.unwrap(),
        ["::1".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(server.names(), ["www.example."]);
}

#[tokio::test]
async fn search_domains_are_tried_until_one_knows_the_name() {
    let server = TestServer::start(|question, _| {
        let known = question.queries[0].name().to_string() == "web.b.example.";
        vec![if known {
            address(question, 1)
        } else {
            refuse(question, ResponseCode::NXDomain)
        }]
    })
    .await;
    let resolver = resolver(&[server.address], &["a.example", "b.example"]);
    assert_eq!(resolver.lookup("web").await.unwrap().len(), 1);
    assert_eq!(server.names(), ["web.a.example.", "web.b.example."]);
    let error = resolver.lookup("nowhere").await.unwrap_err();
    assert!(matches!(error, ResolveError::NoSuchHost(_)), "{error}");
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_by_tcp() {
    let server = TestServer::start(|question, tcp| {
        let mut answer = if tcp {
            address(question, 9)
        } else {
            reply(question)
        };
        answer.metadata.truncation = !tcp;
        vec![answer]
    })
    .await;
    let found = resolver(&[server.address], &[])
        .lookup("big.example")
        .await
        .unwrap();
    assert_eq!(found, [IpAddr::from([10, 0, 0, 9])]);
}

#[tokio::test]
async fn a_silent_or_failing_server_is_passed_over() {
    let silent = TestServer::start(|_, _| vec![]).await;
    let failing = TestServer::start(|question, _| vec![refuse(question, ResponseCode::ServFail)]).await;
    let good = TestServer::start(|question, _| vec![address(question, 3)]).await;
    let servers = [silent.address, failing.address, good.address];
    // The silent one costs the whole time at each attempt; one that answers late is heard at a later one.
    let impatient = resolver_with(&servers, &[], Duration::from_millis(300), 20);
    let found = impatient.lookup("x.example").await.unwrap();
    assert_eq!(found, [IpAddr::from([10, 0, 0, 3])]);
    let error = resolver(&[failing.address], &[])
        .lookup("x.example")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused the question"), "{error}");
}

#[tokio::test]
async fn forged_answers_are_ignored() {
    let rounds = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&rounds);
    let server = TestServer::start(move |question, _| {
        seen.fetch_add(1, Ordering::Relaxed);
        let mut other_id = address(question, 66);
        other_id.metadata.id = question.metadata.id.wrapping_add(1);
        let mut other_name = address(question, 66);
        other_name.queries[0].set_name(Name::from_ascii("evil.example.").unwrap());
        vec![other_id, other_name, address(question, 5)]
    })
    .await;
    let found = resolver(&[server.address], &[])
        .lookup("x.example")
        .await
        .unwrap();
    assert_eq!(found, [IpAddr::from([10, 0, 0, 5])]);
    assert_eq!(rounds.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_name_that_cannot_be_asked_for_is_refused() {
    let resolver = resolver(&[], &[]);
    let error = resolver.lookup(&"x".repeat(80)).await.unwrap_err();
    assert!(matches!(error, ResolveError::Name(_)));
    // Without a server to ask, only a name that is never asked for gets this answer.
    let error = resolver.lookup("registry.invalid").await.unwrap_err();
    assert!(matches!(error, ResolveError::NoSuchHost(_)));
}
