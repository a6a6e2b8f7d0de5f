//! What a server makes of values that it would not have stored.

use cloudeck_engine::{Store as _, Txn};

use super::*;

/// Starts on a store that holds `value` as a config map.
async fn start_on(value: &str) -> Result<Server, crate::server::StartError> {
    let scope = Scope::root("test");
    let store = Arc::new(MemoryStore::new(MemoryOptions::default(), &scope));
    let key = "/registry/core/configmaps/default/odd";
    store.txn(Txn::new().put(key, value.to_owned())).await.unwrap();
    let key = Arc::new(TokenKey::generate().unwrap());
    let config = Config::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 6443, key);
    Server::start(config, store, &scope).await
}

fn deep(levels: usize) -> String {
    let fields = ["{\"f:a\":".repeat(levels), "{}".into(), "}".repeat(levels)].concat();
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"odd","namespace":"default","managedFields":[{{"fieldsV1":{fields}}}]}}}}"#
    )
}

#[tokio::test]
async fn a_value_that_cannot_be_read_is_named_with_its_cause() {
    for (value, cause) in [
        ("{", "unexpected end of JSON input"),
        ("{}", "it is an object without metadata"),
        (&deep(1_000), "exceeded max depth of 400"),
    ] {
        let error = start_on(value).await.err().unwrap();
        let error = std::error::Error::source(&error).unwrap();
        let said = error.to_string();
        assert!(said.contains("/registry/core/configmaps/default/odd"), "{said}");
        let why = error.source().unwrap().to_string();
        assert!(why.starts_with(cause), "{why}");
    }
}

#[tokio::test]
async fn a_value_that_is_deeper_than_may_be_written_is_still_read_and_can_be_mended() {
    let client = start_on(&deep(300))
        .await
        .unwrap()
        .client(LocalIdentity::api_server());
    let odd = client.get(&config_maps(), "default", "odd").await.unwrap();
    assert!(odd.tree().is_deeper_than(300));
    let patch = value!({"metadata": {"managedFields": []}, "data": {"k": "1"}});
    let mended = client
        .merge_patch(&config_maps(), "default", "odd", "", &patch)
        .await
        .unwrap();
    assert!(!mended.tree().is_deeper_than(10));
    client
        .delete(&config_maps(), "default", "odd", &Value::Null)
        .await
        .unwrap();
}
