//! Aggregated roles and the age of events.

use std::time::Duration;

use cloudeck_lifecycle::LifecycleConfig;
use cloudeck_machinery::{GroupVersionResource, Value, value};

use crate::bench::{Bench, core};

fn cluster_roles() -> GroupVersionResource {
    GroupVersionResource::new("rbac.authorization.k8s.io", "v1", "clusterroles")
}

#[tokio::test]
async fn a_role_made_for_view_shows_in_view_edit_and_admin() {
    let bench = Bench::start().await;
    let mine = value!({"apiGroups": ["example.com"], "resources": ["things"], "verbs": ["get"]});
    let rest = value!({
        "metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}, "rules": [(mine.clone())]
    });
    bench.create(&cluster_roles(), "", "things-viewer", rest).await;
    for name in ["view", "edit", "admin"] {
        let has = |role: &Value| role.items_at(&["rules"]).contains(&mine);
        bench.until_one(&cluster_roles(), name, "the rule", has).await;
    }
    bench
        .delete(&cluster_roles(), "", "things-viewer", Value::Null)
        .await;
    for name in ["view", "edit", "admin"] {
        let lacks = |role: &Value| !role.items_at(&["rules"]).contains(&mine);
        bench
            .until_one(&cluster_roles(), name, "the rule's absence", lacks)
            .await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn events_go_when_their_time_is_up_and_not_before() {
    let config = LifecycleConfig {
        event_lifetime: Duration::from_millis(10),
        ..LifecycleConfig::default()
    };
    let bench = Bench::start_with(config).await;
    let event = |last: &str| {
        value!({
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "Test",
            "type": "Normal", "firstTimestamp": (last), "lastTimestamp": (last)
        })
    };
    bench
        .create(&core("events"), "default", "young", event("2999-01-01T00:00:00Z"))
        .await;
    bench
        .create(&core("events"), "default", "old", event("2020-01-01T00:00:00Z"))
        .await;
    bench.until_gone(&core("events"), "old").await;
    assert!(bench.exists(&core("events"), "default", "young").await);
    bench.stop().await;
}
