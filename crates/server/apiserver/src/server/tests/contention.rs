//! Many writers of one object.

use futures_util::future::join_all;

use super::interrupted::server_interrupted;
use super::*;

const WRITERS: usize = 64;

/// Where all writers read before one writes.
async fn slow() -> Client {
    let server = server_interrupted(Box::new(|_| Box::pin(tokio::task::yield_now()))).await;
    server.client(LocalIdentity::api_server())
}

#[tokio::test]
async fn writers_that_insist_on_no_revision_all_get_their_turn() {
    let client = slow().await;
    let maps = config_maps();
    client
        .create(&maps, "default", &config_map("a", "0"))
        .await
        .unwrap();
    let writes = (0..WRITERS).map(|n| {
        let (client, maps) = (client.clone(), maps.clone());
        let mut patch = value!({"data": {}});
        patch.set_at(&["data", &format!("k{n}")], "1");
        async move { client.merge_patch(&maps, "default", "a", "", &patch).await }
    });
    for written in join_all(writes).await {
        written.unwrap();
    }
    let tree = client.get(&maps, "default", "a").await.unwrap().tree();
    assert_eq!(
        tree.at(&["data"])
            .and_then(Value::as_object)
            .map(cloudeck_machinery::Map::len),
        Some(WRITERS + 1)
    );
}

#[tokio::test]
async fn a_deletion_gets_its_turn_among_many_writers() {
    let client = slow().await;
    let maps = config_maps();
    client
        .create(&maps, "default", &config_map("a", "0"))
        .await
        .unwrap();
    let write = async |n: usize| {
        let mut patch = value!({"data": {}});
        patch.set_at(&["data", "k"], n.to_string());
        match client.merge_patch(&maps, "default", "a", "", &patch).await {
            Ok(_) => {}
            Err(status) => assert_eq!(status.reason, Reason::NotFound, "{status}"),
        }
    };
    let deletion = async { client.delete(&maps, "default", "a", &Value::Null).await.unwrap() };
    futures_util::join!(join_all((0..WRITERS).map(write)), deletion);
    assert_eq!(client.get(&maps, "default", "a").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn of_many_who_apply_what_is_not_there_one_creates_it_and_the_others_change_it() {
    let client = slow().await;
    let maps = config_maps();
    let applies = (0..8).map(|n| {
        let (client, maps, manager) = (client.clone(), maps.clone(), format!("m{n}"));
        let mut map = config_map("a", "1");
        map.set_at(&["metadata", "namespace"], "default");
        map.set_at(&["data"], Value::object());
        map.set_at(&["data", &manager], "1");
        async move { client.apply(&maps, &manager, "", &map).await }
    });
    for applied in join_all(applies).await {
        applied.unwrap();
    }
    let tree = client.get(&maps, "default", "a").await.unwrap().tree();
    let data = tree.at(&["data"]).and_then(Value::as_object);
    assert_eq!(data.map(cloudeck_machinery::Map::len), Some(8));
}
