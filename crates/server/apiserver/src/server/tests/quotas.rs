//! Quotas under writers that come together.

use cloudeck_client::{Params, Request};
use cloudeck_machinery::{GroupVersionResource, Value, json, value};
use futures_util::future::join_all;

use super::{admin, config_map, config_maps};

fn quotas() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "resourcequotas")
}

async fn with_quota(hard: &str) -> cloudeck_client::Client {
    let client = admin().await;
    let quota = value!({"metadata": {"name": "q"}, "spec": {"hard": {"count/configmaps": (hard)}}});
    client.create(&quotas(), "default", &quota).await.unwrap();
    // What the controller does.
    let status =
        value!({"status": {"hard": {"count/configmaps": (hard)}, "used": {"count/configmaps": "0"}}});
    client
        .merge_patch(&quotas(), "default", "q", "status", &status)
        .await
        .unwrap();
    client
}

async fn used(client: &cloudeck_client::Client) -> String {
    let quota = client
        .get(&quotas(), "default", "q")
        .await
        .unwrap()
        .tree()
        .clone();
    quota
        .str_at(&["status", "used", "count/configmaps"])
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn writers_that_come_together_do_not_exceed_a_quota() {
    let client = with_quota("10").await;
    let maps = config_maps();
    let writes = (0..30).map(|number| {
        let (client, maps) = (&client, &maps);
        async move {
            let map = config_map(&format!("m{number}"), "1");
            client.create(maps, "default", &map).await.map(|_| ())
        }
    });
    let (done, refused): (Vec<_>, Vec<_>) = join_all(writes).await.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (10, 20));
    let why = "is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=10, limited: count/configmaps=10";
    for refusal in refused {
        let status = refusal.unwrap_err();
        assert!(status.code == 403 && status.message.ends_with(why), "{status}");
    }
    assert_eq!(used(&client).await, "10");
}

#[tokio::test]
async fn a_dry_run_is_judged_and_not_charged() {
    let client = with_quota("1").await;
    let body = |name: &str| {
        let map: Value = config_map(name, "1");
        cloudeck_client::Body::json(json::to_vec(&map))
    };
    let params = Params {
        dry_run: vec!["All".into()],
        ..Params::default()
    };
    let dry = async |name: &str| {
        let request = Request::create(&config_maps(), "default", body(name));
        client.send(request.with_params(params.clone())).await
    };
    dry("a").await.unwrap();
    assert_eq!(used(&client).await, "0");
    client
        .create(&config_maps(), "default", &config_map("b", "1"))
        .await
        .unwrap();
    assert_eq!(dry("a").await.unwrap_err().code, 403);
    let again = client
        .create(&config_maps(), "default", &config_map("b", "1"))
        .await
        .unwrap_err();
    assert_eq!(again.code, 403, "the quota is asked before the name");
}
