//! Logs and exec, with a node that the test plays itself.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cloudeck_apiserver::http::{NodeDialer, NodeStream};
use cloudeck_client::transport::BoxFuture;
use cloudeck_machinery::{GroupVersionResource, value};
use cloudeck_testkit::TestServer;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::wire::Wire;

/// Answers every connection with a fixed text, then echoes; keeps what was asked.
struct FakeNode {
    answer: &'static str,
    asked: Mutex<Vec<String>>,
}

impl FakeNode {
    fn new(answer: &'static str) -> Arc<Self> {
        Arc::new(Self {
            answer,
            asked: Mutex::default(),
        })
    }

    async fn play(self: Arc<Self>, mut stream: DuplexStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        self.asked.lock().unwrap().push(String::from_utf8(head).unwrap());
        stream.write_all(self.answer.as_bytes()).await.unwrap();
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..count]).await.unwrap();
        }
    }
}

struct Nodes(Arc<FakeNode>);

impl NodeDialer for Nodes {
    fn dial<'a>(
        &'a self,
        address: &'a str,
        port: u16,
    ) -> BoxFuture<'a, std::io::Result<Pin<Box<dyn NodeStream>>>> {
        assert_eq!((address, port), ("192.0.2.7", 10250));
        self.played()
    }

    fn dial_plain(
        &self,
        address: std::net::IpAddr,
        port: u16,
    ) -> BoxFuture<'_, std::io::Result<Pin<Box<dyn NodeStream>>>> {
        assert_eq!((address.to_string().as_str(), port), ("192.0.2.9", 8080));
        self.played()
    }
}

impl Nodes {
    fn played(&self) -> BoxFuture<'static, std::io::Result<Pin<Box<dyn NodeStream>>>> {
        let (ours, theirs) = tokio::io::duplex(4096);
        drop(tokio::runtime::Handle::current().spawn(Arc::clone(&self.0).play(theirs)));
        Box::pin(async move { Ok(Box::pin(ours) as Pin<Box<dyn NodeStream>>) })
    }
}

async fn with_pod(node: &Arc<FakeNode>) -> TestServer {
    let test = TestServer::start_with_nodes(Arc::new(Nodes(Arc::clone(node))))
        .await
        .unwrap();
    let client = test.admin();
    let core = |plural| GroupVersionResource::new("", "v1", plural);
    let machine = value!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    client.create(&core("nodes"), "", &machine).await.unwrap();
    let status = value!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}});
    client
        .merge_patch(&core("nodes"), "", "n", "status", &status)
        .await
        .unwrap();
    let account = value!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    client
        .create(&core("serviceaccounts"), "default", &account)
        .await
        .unwrap();
    let pod = value!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    });
    client.create(&core("pods"), "default", &pod).await.unwrap();
    test
}

#[tokio::test]
async fn logs_are_streamed_from_the_node_without_the_clients_credentials() {
    let node =
        FakeNode::new("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n");
    let test = with_pod(&node).await;
    let mut wire = Wire::admin(&test).await;
    let path = "/api/v1/namespaces/default/pods/p/log?tailLines=5&container=c&pretty=true";
    let log = wire.ask("GET", path, &[("x-remote-user", "mallory")], "").await;
    assert_eq!((log.status.as_u16(), &log.body[..]), (200, &b"hello\n"[..]));
    let asked = node.asked.lock().unwrap().join("");
    assert!(
        asked.starts_with("GET /containerLogs/default/p/c?tailLines=5 HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(!asked.contains("mallory"), "{asked}");
    let unknown = wire
        .get("/api/v1/namespaces/default/pods/p/log?container=x")
        .await;
    assert_eq!(unknown.message(), "container x is not valid for pod p");
    test.stop().await;
}

/// Asks for the log of [`with_pod`]'s pod as messages, and returns the first `count` bytes after the handshake.
async fn log_messages(test: &TestServer, protocol: &str, count: usize) -> Vec<u8> {
    let request = Request::builder()
        .uri("/api/v1/namespaces/default/pods/p/log?container=c")
        .header("host", "test")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol)
        .body(Full::new(Bytes::new()))
        .unwrap();
    let answer = Wire::admin(test).await.send(request).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-protocol"], protocol);
    assert_eq!(
        answer.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let mut socket = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let mut messages = vec![0; count];
    socket.read_exact(&mut messages).await.unwrap();
    messages
}

#[tokio::test]
async fn a_log_comes_as_messages_of_a_websocket() {
    let node =
        FakeNode::new("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n");
    let test = with_pod(&node).await;
    assert_eq!(
        log_messages(&test, "binary.k8s.io", 12).await,
        b"\x82\0\x82\x06hello\n\x88\0"
    );
    assert_eq!(
        log_messages(&test, "base64.binary.k8s.io", 14).await,
        b"\x81\0\x81\x08aGVsbG8K\x88\0"
    );
    let asked = node.asked.lock().unwrap().join("");
    assert!(
        !asked.contains("upgrade") && !asked.contains("websocket"),
        "{asked}"
    );
    test.stop().await;
}

#[tokio::test]
async fn an_exec_joins_two_sockets() {
    let node = FakeNode::new(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n",
    );
    let test = with_pod(&node).await;
    let mut wire = Wire::admin(&test).await;
    let request = Request::builder()
        .uri("/api/v1/namespaces/default/pods/p/exec?command=echo&command=%253A&stdin=true&stdout=true")
        .header("host", "test")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-protocol", "v5.channel.k8s.io")
        .body(Full::new(Bytes::new()))
        .unwrap();
    let answer = wire.send(request).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    let mut socket = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    socket.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
    let asked = node.asked.lock().unwrap().join("");
    assert!(
        asked.starts_with("GET /exec/default/p/c?input=1&output=1&command=echo&command=%253A "),
        "{asked}"
    );
    let plain = Wire::admin(&test)
        .await
        .get("/api/v1/namespaces/default/pods/p/exec?command=a")
        .await;
    assert_eq!(plain.status, 400);
    let attach = Wire::admin(&test)
        .await
        .get("/api/v1/namespaces/default/pods/p/attach")
        .await;
    assert_eq!(attach.status, 501);
    drop(socket);
    test.stop().await;
}

#[tokio::test]
async fn pods_and_services_are_reached_through_the_server() {
    let node = FakeNode::new("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-pod: p\r\n\r\nhi");
    let test = with_pod(&node).await;
    let client = test.admin();
    let core = |plural| GroupVersionResource::new("", "v1", plural);
    let proxied = "/api/v1/namespaces/default/pods/p:8080/proxy/a/b?c=d";
    let early = Wire::admin(&test).await.get(proxied).await;
    assert_eq!(
        (early.status.as_u16(), early.message().as_str()),
        (400, "address not allowed")
    );
    let status = value!({"status": {"podIP": "192.0.2.9", "podIPs": [{"ip": "192.0.2.9"}]}});
    client
        .merge_patch(&core("pods"), "default", "p", "status", &status)
        .await
        .unwrap();
    let answer = Wire::admin(&test).await.get(proxied).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hi"[..]));
    assert_eq!(answer.header("x-pod"), "p");
    let service = value!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
    client
        .create(&core("services"), "default", &service)
        .await
        .unwrap();
    let through = "/api/v1/namespaces/default/services/http:s:80/proxy/";
    let nobody = Wire::admin(&test).await.get(through).await;
    assert_eq!(nobody.message(), "no endpoints available for service \"s\"");
    let slice = value!({"metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["192.0.2.9"], "targetRef": {"kind": "Pod", "name": "p", "namespace": "default"}},
            {"addresses": ["192.0.2.10"], "conditions": {"ready": true}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]});
    let slices = GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices");
    client.create(&slices, "default", &slice).await.unwrap();
    let answer = Wire::admin(&test).await.get(through).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hi"[..]));
    let asked = node.asked.lock().unwrap().join("");
    assert!(
        asked.starts_with("GET /a/b?c=d HTTP/1.1\r\n") && asked.contains("host: 192.0.2.9:8080"),
        "{asked}"
    );
    test.stop().await;
}

#[tokio::test]
async fn a_node_is_reached_by_its_name_with_or_without_the_port() {
    let node = FakeNode::new("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    let test = with_pod(&node).await;
    for name in ["n", "n:10250", "https:n:10250"] {
        let path = format!("/api/v1/nodes/{name}/proxy/pods?a=b");
        let answer = Wire::admin(&test).await.get(&path).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"hi"[..]),
            "{name}"
        );
    }
    for (name, code) in [("m:10250", 404), ("n:x", 400), ("a:n:9", 400)] {
        let path = format!("/api/v1/nodes/{name}/proxy/");
        let answer = Wire::admin(&test).await.get(&path).await;
        assert_eq!(answer.status.as_u16(), code, "{name}");
    }
    let asked = node.asked.lock().unwrap().join("");
    assert!(asked.starts_with("GET /pods?a=b HTTP/1.1\r\n"), "{asked}");
    test.stop().await;
}

#[tokio::test]
async fn a_proxied_page_leads_back_through_the_proxy() {
    let node = FakeNode::new(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 21\r\n\r\n<a href=\"/b/?c\">b</a>",
    );
    let test = with_pod(&node).await;
    let status = value!({"status": {"podIP": "192.0.2.9", "podIPs": [{"ip": "192.0.2.9"}]}});
    let pods = GroupVersionResource::new("", "v1", "pods");
    test.admin()
        .merge_patch(&pods, "default", "p", "status", &status)
        .await
        .unwrap();
    let top = "/api/v1/namespaces/default/pods/p:8080/proxy";
    let redirect = Wire::admin(&test).await.get(&format!("{top}?d=e")).await;
    assert_eq!(redirect.status, 301);
    assert_eq!(redirect.header("location"), format!("{top}/?d=e"));
    let found = Wire::admin(&test).await.get(&format!("{top}/a%2Fb/")).await;
    let expected = format!("<a href=\"{top}/b/?c\">b</a>");
    assert_eq!(String::from_utf8_lossy(&found.body), expected);
    let options = Wire::admin(&test).await.ask("OPTIONS", top, &[], "").await;
    assert_eq!(options.status, 200);
    let asked = node.asked.lock().unwrap().join("");
    assert!(asked.starts_with("GET /a%2Fb/ HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("OPTIONS / HTTP/1.1\r\n"), "{asked}");
    test.stop().await;
}
