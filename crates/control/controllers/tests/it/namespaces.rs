use cloudeck_machinery::Value;

use crate::bench::{Bench, cluster_roles, config_maps, deployments, namespaces, pods, service_accounts};

const NAMESPACE: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team"}}"#;

fn inside(all: &[Value]) -> usize {
    all.iter()
        .filter(|tree| tree.str_at(&["metadata", "namespace"]) == Some("team"))
        .count()
}

fn named<'a>(all: &'a [Value], name: &str) -> Option<&'a Value> {
    all.iter()
        .find(|tree| tree.str_at(&["metadata", "name"]) == Some(name))
}

#[tokio::test]
async fn a_new_namespace_gets_its_account_and_the_root_certificate() {
    let bench = Bench::start().await;
    bench.create(&namespaces(), NAMESPACE).await;
    bench
        .until(&service_accounts(), "the account", |all| inside(all) == 1)
        .await;
    let all = bench
        .until(&config_maps(), "the certificate", |all| inside(all) == 1)
        .await;
    let map = all
        .iter()
        .find(|map| map.str_at(&["metadata", "namespace"]) == Some("team"))
        .unwrap();
    assert_eq!(map.str_at(&["data", "ca.crt"]), Some("the certificate"));
    bench.stop().await;
}

#[tokio::test]
async fn a_deleted_namespace_ends_with_everything_in_it() {
    let bench = Bench::start().await;
    bench.create(&namespaces(), NAMESPACE).await;
    bench
        .until(&service_accounts(), "the account", |all| inside(all) == 1)
        .await;
    let deployment = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"team"},
        "spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},
        "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;
    bench.create(&deployments(), deployment).await;
    bench.until(&pods(), "two pods", |all| inside(all) == 2).await;
    let held = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"held","namespace":"team",
        "finalizers":["example.com/hold"]}}"#;
    bench.create(&config_maps(), held).await;
    bench
        .admin
        .delete(&namespaces(), "", "team", &Value::Null)
        .await
        .unwrap();
    let told = |tree: &Value| {
        tree.items_at(&["status", "conditions"]).iter().any(|condition| {
            condition.str_at(&["reason"]) == Some("SomeFinalizersRemain")
                && condition
                    .str_at(&["message"])
                    .is_some_and(|text| text.contains("example.com/hold in 1"))
        })
    };
    bench.until_one(&namespaces(), "team", "what remains", told).await;
    let free = cloudeck_machinery::json::parse(br#"{"metadata":{"finalizers":null}}"#).unwrap();
    bench
        .admin
        .merge_patch(&config_maps(), "team", "held", "", &free)
        .await
        .unwrap();
    bench
        .until(&namespaces(), "the end", |all| named(all, "team").is_none())
        .await;
    for resource in [pods(), deployments(), config_maps(), service_accounts()] {
        bench
            .until(&resource, "nothing left", |all| inside(all) == 0)
            .await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn aggregated_roles_show_what_they_gather() {
    let bench = Bench::start().await;
    let role = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"widgets",
        "labels":{"rbac.authorization.k8s.io/aggregate-to-view":"true"}},
        "rules":[{"apiGroups":["example.com"],"resources":["widgets"],"verbs":["get"]}]}"#;
    bench
        .admin
        .create(
            &cluster_roles(),
            "",
            &cloudeck_machinery::json::parse(role.as_bytes()).unwrap(),
        )
        .await
        .unwrap();
    let shows = |tree: &Value| {
        tree.items_at(&["rules"])
            .iter()
            .any(|rule| rule.to_string().contains("widgets"))
    };
    bench
        .until_one(&cluster_roles(), "view", "the new rule", shows)
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn a_changed_root_certificate_is_put_right_and_a_lost_account_made_again() {
    let bench = Bench::start().await;
    let certificate = |map: &Value| {
        map.str_at(&["metadata", "namespace"]) == Some("default")
            && map.str_at(&["data", "ca.crt"]) == Some("the certificate")
    };
    bench
        .until(&config_maps(), "the certificate", |all| {
            all.iter().any(certificate)
        })
        .await;
    bench
        .patch(
            &config_maps(),
            "kube-root-ca.crt",
            "",
            r#"{"data":{"ca.crt":"another"}}"#,
        )
        .await;
    bench
        .until(&config_maps(), "the certificate", |all| {
            all.iter().any(certificate)
        })
        .await;
    let account = bench.get(&service_accounts(), "default").await.unwrap();
    bench.delete(&service_accounts(), "default", &Value::Null).await;
    let again = |it: &Value| {
        it.str_at(&["metadata", "namespace"]) == Some("default")
            && it.at(&["metadata", "uid"]) != account.at(&["metadata", "uid"])
    };
    bench
        .until(&service_accounts(), "another account", |all| {
            all.iter().any(again)
        })
        .await;
    bench.stop().await;
}
