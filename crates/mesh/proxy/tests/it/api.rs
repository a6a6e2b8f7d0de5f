//! The whole way from watch events to connections.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use cloudeck_client::transport::BoxFuture;
use cloudeck_client::{Client, Informer, Request, Response, Transport, WatchEvent, WatchStream};
use cloudeck_machinery::{Object, Status};
use cloudeck_netlab::{Lab, SILENCE, Server, ask_tcp, ask_tcp_within};
use cloudeck_proxy::{Proxy, follow};
use cloudeck_task::Scope;
use tokio::sync::mpsc;

use crate::rig::{CLUSTER_IP, proxy_config};

/// An API server that says what the test tells it to, one watch per resource.
#[derive(Default)]
struct Script {
    services: Mutex<Option<mpsc::Receiver<WatchEvent>>>,
    slices: Mutex<Option<mpsc::Receiver<WatchEvent>>>,
}

impl Transport for Script {
    fn call(&self, _: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async { Err(Status::internal("only watches are scripted")) })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        let which = if request.resource.resource == "services" {
            &self.services
        } else {
            &self.slices
        };
        let events = which.lock().unwrap().take();
        Box::pin(async move { Ok(Box::pin(Events(events.unwrap())) as WatchStream) })
    }
}

struct Events(mpsc::Receiver<WatchEvent>);

impl futures_util::Stream for Events {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.0.poll_recv(cx)
    }
}

fn object(json: String) -> Arc<Object> {
    Arc::new(Object::from_json(json.into()).unwrap())
}

fn service(revision: u64) -> Arc<Object> {
    object(format!(
        r#"{{"metadata":{{"name":"s","namespace":"n","resourceVersion":"{revision}"}},
            "spec":{{"type":"ClusterIP","clusterIP":"{CLUSTER_IP}","ports":[{{"protocol":"TCP","port":80}}]}}}}"#
    ))
}

fn slice(revision: u64, ip: std::net::Ipv4Addr, ready: bool) -> Arc<Object> {
    object(format!(
        r#"{{"metadata":{{"name":"s-1","namespace":"n","resourceVersion":"{revision}",
              "labels":{{"kubernetes.io/service-name":"s"}}}},
            "addressType":"IPv4","ports":[{{"name":"","port":8080,"protocol":"TCP"}}],
            "endpoints":[{{"addresses":["{ip}"],"conditions":{{"ready":{ready}}},"nodeName":"here"}}]}}"#
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_events_become_connections_without_delay() {
    let lab = Lab::new("api");
    let network = lab.start_network().await;
    let pod = lab.pod(&network, "a").await;
    let _server = Server::start(&pod.namespace, "a", 8080);

    let (tell_services, services) = mpsc::channel(8);
    let (tell_slices, slices) = mpsc::channel(8);
    let script = Script {
        services: Some(services).into(),
        slices: Some(slices).into(),
    };
    let client = Client::new(Arc::new(script));
    let scope = Scope::root("test");
    let proxy = Proxy::start(&proxy_config(&lab), &scope).unwrap();
    let watched = [follow::services(), follow::endpoint_slices()];
    let [services, slices] = watched.map(|config| Informer::start(&scope, client.clone(), config));
    proxy.follow(services, slices, &scope);
    let end = WatchEvent::Bookmark {
        revision: 1,
        initial_events_end: true,
    };
    tell_services.send(end.clone()).await.unwrap();
    tell_slices.send(end).await.unwrap();
    assert!(
        proxy
            .progress()
            .wait_for(|progress| progress.synced)
            .await
            .is_ok()
    );

    // Service first, its endpoint not ready: rejected.
    tell_services.send(WatchEvent::Added(service(2))).await.unwrap();
    tell_slices
        .send(WatchEvent::Added(slice(3, pod.address.ip, false)))
        .await
        .unwrap();
    assert!(proxy.wait_for_changes(3).await);
    assert!(ask_tcp(&lab.node, CLUSTER_IP, 80).is_err());

    let started = Instant::now();
    tell_slices
        .send(WatchEvent::Modified(slice(4, pod.address.ip, true)))
        .await
        .unwrap();
    assert!(proxy.wait_for_changes(4).await);
    assert!(ask_tcp(&lab.node, CLUSTER_IP, 80).is_ok());
    println!("endpoint ready → first connection: {:?}", started.elapsed());

    tell_services.send(WatchEvent::Deleted(service(5))).await.unwrap();
    assert!(proxy.wait_for_changes(5).await);
    assert!(ask_tcp_within(&lab.node, CLUSTER_IP, 80, SILENCE).is_err());
    let started = Instant::now();
    tell_services.send(WatchEvent::Added(service(6))).await.unwrap();
    assert!(proxy.wait_for_changes(6).await);
    assert!(ask_tcp(&lab.node, CLUSTER_IP, 80).is_ok());
    println!("Service created → first connection: {:?}", started.elapsed());
}
