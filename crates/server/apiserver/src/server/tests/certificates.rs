//! Who asked for a certificate, and who decided when.

use base64::Engine as _;
use cloudeck_auth::LocalIdentity;
use cloudeck_machinery::{GroupVersionResource, Value, value};

use super::server;

fn requests() -> GroupVersionResource {
    GroupVersionResource::new("certificates.k8s.io", "v1", "certificatesigningrequests")
}

fn request() -> Value {
    let pem = include_str!("certificates/request.pem");
    let pem = base64::engine::general_purpose::STANDARD.encode(pem);
    value!({"metadata": {"name": "r"}, "spec": {
        "request": (pem.as_str()), "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
        "username": "system:node:somebody-else", "groups": ["system:masters"]
    }})
}

#[tokio::test]
async fn a_request_says_who_made_it_and_nobody_else() {
    let client = server().await.client(LocalIdentity::api_server());
    let made = client.create(&requests(), "", &request()).await.unwrap();
    let made = made.tree();
    assert_eq!(made.str_at(&["spec", "username"]), Some("system:apiserver"));
    let masters = made.items_at(&["spec", "groups"]).to_vec();
    assert_eq!(
        masters,
        [Value::from("system:masters"), Value::from("system:authenticated")]
    );
    let change = value!({"spec": {"username": "jane"}, "metadata": {"labels": {"a": "b"}}});
    let changed = client
        .merge_patch(&requests(), "", "r", "", &change)
        .await
        .unwrap();
    assert_eq!(
        changed.tree().str_at(&["spec", "username"]),
        Some("system:apiserver")
    );
}

#[tokio::test]
async fn a_decision_has_its_time_and_stays() {
    let client = server().await.client(LocalIdentity::api_server());
    client.create(&requests(), "", &request()).await.unwrap();
    let approve =
        value!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Test"}]}});
    let early = client
        .merge_patch(&requests(), "", "r", "status", &approve)
        .await
        .unwrap_err();
    let why = "updates may not add a condition of type \"Approved\"";
    assert!(early.message.ends_with(why), "{early}");
    let approve = value!({"metadata": {"annotations": {"by": "me"}}, "status": (approve.get("status").unwrap().clone())});
    let decided = client
        .merge_patch(&requests(), "", "r", "approval", &approve)
        .await
        .unwrap();
    let condition = decided.tree().items_at(&["status", "conditions"])[0].clone();
    assert_eq!(
        decided.tree().str_at(&["metadata", "annotations", "by"]),
        Some("me")
    );
    for time in ["lastUpdateTime", "lastTransitionTime"] {
        assert!(condition.str_at(&[time]).is_some(), "{time} of {condition}");
    }
    let undo = value!({"status": {"conditions": null}});
    let undone = client
        .merge_patch(&requests(), "", "r", "approval", &undo)
        .await
        .unwrap_err();
    assert!(
        undone.message.contains("updates may not remove a condition"),
        "{undone}"
    );
}

#[tokio::test]
async fn what_is_no_signed_request_is_refused() {
    let client = server().await.client(LocalIdentity::api_server());
    let mut request = request();
    request.set_at(&["spec", "request"], "bm90aGluZw==");
    request.set_at(&["spec", "signerName"], "example.com/any");
    let refused = client.create(&requests(), "", &request).await.unwrap_err();
    assert_eq!(refused.code, 422);
    assert!(
        refused.message.contains("spec.request: Invalid value"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_trust_bundle_is_named_after_its_signer() {
    let client = server().await.client(LocalIdentity::api_server());
    let bundles = GroupVersionResource::new("certificates.k8s.io", "v1", "clustertrustbundles");
    let named = |name: &str| value!({"metadata": {"name": (name)}, "spec": {"signerName": "example.com/s", "trustBundle": "x"}});
    client
        .create(&bundles, "", &named("example.com:s:a"))
        .await
        .unwrap();
    let refused = client.create(&bundles, "", &named("a")).await.unwrap_err();
    assert!(
        refused.message.contains(
            "ClusterTrustBundle for signerName example.com/s must be named with prefix example.com:s:"
        ),
        "{refused}"
    );
    let mut unsigned = named("example.com:s:b");
    unsigned.remove_at(&["spec", "signerName"]);
    let refused = client.create(&bundles, "", &unsigned).await.unwrap_err();
    assert!(
        refused.message.contains("must not have \":\" in its name"),
        "{refused}"
    );
}
