//! Service addresses from more than one range.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Client, Request, WatchEvent};
use cloudeck_engine::{MemoryOptions, MemoryStore};
use cloudeck_machinery::{GroupVersionResource, Status, Value, value};
use cloudeck_pki::TokenKey;
use cloudeck_task::Scope;
use futures_util::StreamExt as _;

use crate::{Config, Server};

/// A cluster with room for two services, of which `kubernetes` is one.
async fn tight() -> Client {
    let scope = Scope::root("test");
    let store = Arc::new(MemoryStore::new(MemoryOptions::default(), &scope));
    let key = Arc::new(TokenKey::generate().unwrap());
    let mut config = Config::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 6443, key);
    config.service_cidr = "10.96.0.0/30".parse().unwrap();
    let server = Server::start(config, store, &scope).await.unwrap();
    server.client(LocalIdentity::api_server())
}

async fn create(client: &Client, name: &str, address: &str) -> Result<String, Status> {
    let services = GroupVersionResource::new("", "v1", "services");
    let mut service = value!({"metadata": {"name": (name)}, "spec": {"ports": [{"port": 80}]}});
    if !address.is_empty() {
        service.set_at(&["spec", "clusterIP"], address);
    }
    let made = client.create(&services, "default", &service).await?;
    Ok(made.tree().str_at(&["spec", "clusterIP"]).unwrap().to_owned())
}

#[tokio::test]
async fn a_further_range_gives_addresses_while_it_is_ready() {
    let client = tight().await;
    assert_eq!(create(&client, "a", "").await.unwrap(), "10.96.0.2");
    let refused = |outcome: Result<String, Status>| outcome.unwrap_err().message;
    let full = "Service \"b\" is invalid: spec.clusterIPs: Invalid value: []: failed to allocate a serviceIP: range is full";
    assert_eq!(refused(create(&client, "b", "").await), full);
    let ranges = GroupVersionResource::new("networking.k8s.io", "v1", "servicecidrs");
    let more = value!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/30"]}});
    client.create(&ranges, "", &more).await.unwrap();
    assert_eq!(
        refused(create(&client, "b", "").await),
        full,
        "nobody said that it is ready"
    );
    let say_ready = async |word: &str| {
        let status: Value = value!({"status": {"conditions": [{
            "type": "Ready", "status": (word), "reason": "", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"
        }]}});
        client
            .merge_patch(&ranges, "", "more", "status", &status)
            .await
            .unwrap();
    };
    say_ready("True").await;
    assert_eq!(create(&client, "b", "10.200.0.2").await.unwrap(), "10.200.0.2");
    assert_eq!(create(&client, "c", "").await.unwrap(), "10.200.0.1");
    let outside = refused(create(&client, "d", "10.200.0.3").await);
    assert!(
        outside.ends_with("The range of valid IPs is 10.200.0.0/30"),
        "{outside}"
    );
    let elsewhere = refused(create(&client, "d", "10.201.0.1").await);
    assert!(
        elsewhere.ends_with("the provided network does not match the current range"),
        "{elsewhere}"
    );
    say_ready("False").await;
    let services = GroupVersionResource::new("", "v1", "services");
    client
        .delete(&services, "default", "b", &Value::Null)
        .await
        .unwrap();
    let gone = refused(create(&client, "b", "10.200.0.2").await);
    assert!(gone.ends_with("does not match the current range"), "{gone}");
}

#[tokio::test]
async fn the_address_of_a_service_cannot_be_taken_away() {
    let client = tight().await;
    let address = create(&client, "a", "").await.unwrap();
    let addresses = GroupVersionResource::new("networking.k8s.io", "v1", "ipaddresses");
    let mut events = client.watch(Request::watch(&addresses, "")).await.unwrap();
    client
        .delete(&addresses, "", &address, &Value::Null)
        .await
        .unwrap();
    let mut is_gone = false;
    let back = async {
        loop {
            match events.next().await.unwrap() {
                WatchEvent::Deleted(gone) => is_gone |= gone.key.name == address,
                WatchEvent::Added(object) if is_gone && object.key.name == address => return object,
                _ => {}
            }
        }
    };
    let back = tokio::time::timeout(std::time::Duration::from_secs(10), back)
        .await
        .unwrap();
    assert_eq!(back.tree().str_at(&["spec", "parentRef", "name"]), Some("a"));
    // With its service it goes.
    let services = GroupVersionResource::new("", "v1", "services");
    client
        .delete(&services, "default", "a", &Value::Null)
        .await
        .unwrap();
    assert_eq!(client.get(&addresses, "", &address).await.unwrap_err().code, 404);
    assert_eq!(create(&client, "b", "").await.unwrap(), address);
}
