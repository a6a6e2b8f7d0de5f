use cloudeck_machinery::{GroupVersionResource, Value, value};

use crate::bench::{Bench, endpoint_slices, endpoints, node, nodes, pods, services};

const SERVICE: &str = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","labels":{"team":"a"}},
    "spec":{"selector":{"app":"web"},"ports":[{"name":"http","port":80,"targetPort":"web"}]}}"#;

fn pod(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"web"}}}},"spec":{{"nodeName":"n",
        "containers":[{{"name":"c","image":"i","ports":[{{"name":"web","containerPort":8080}}]}}]}}}}"#
    )
}

fn of_web(slices: &[Value]) -> Vec<&Value> {
    let label = ["metadata", "labels", "kubernetes.io/service-name"];
    slices
        .iter()
        .filter(|slice| slice.str_at(&label) == Some("web"))
        .collect()
}

fn ready(slices: &[Value]) -> usize {
    let endpoints = of_web(slices)
        .into_iter()
        .flat_map(|slice| slice.items_at(&["endpoints"]));
    endpoints
        .filter(|endpoint| endpoint.bool_at(&["conditions", "ready"]) == Some(true))
        .count()
}

#[tokio::test]
async fn ready_pods_appear_in_slices_and_endpoints_and_leave_again() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("n")).await;
    bench.create(&services(), SERVICE).await;
    bench
        .until(&endpoint_slices(), "an empty slice", |slices| {
            of_web(slices).len() == 1
        })
        .await;
    for name in ["a", "b"] {
        let pod = bench.create(&pods(), &pod(name)).await;
        bench.make_ready(&pod.tree()).await;
    }
    let all = bench
        .until(&endpoint_slices(), "two ready endpoints", |slices| {
            ready(slices) == 2
        })
        .await;
    assert_eq!(of_web(&all).len(), 1);
    let slice = of_web(&all)[0];
    assert_eq!(slice.items_at(&["ports"])[0].int_at(&["port"]), Some(8080));
    assert_eq!(slice.str_at(&["metadata", "labels", "team"]), Some("a"));
    let two = |tree: &Value| {
        let subsets = tree.items_at(&["subsets"]);
        subsets
            .first()
            .is_some_and(|subset| subset.items_at(&["addresses"]).len() == 2)
    };
    bench.until_one(&endpoints(), "web", "two addresses", two).await;
    let a = bench.get(&pods(), "a").await.unwrap();
    bench.report(&a, "False").await;
    bench
        .until(&endpoint_slices(), "one ready endpoint", |slices| {
            ready(slices) == 1
        })
        .await;
    bench.delete(&services(), "web", &Value::Null).await;
    let gone = |all: &[Value]| {
        !all.iter()
            .any(|it| it.str_at(&["metadata", "name"]) == Some("web"))
    };
    bench.until(&endpoints(), "the end of the Endpoints", gone).await;
    bench.stop().await;
}

#[tokio::test]
async fn hand_written_endpoints_are_mirrored() {
    let bench = Bench::start().await;
    let service =
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}"#;
    bench.create(&services(), service).await;
    let text = r#"{"apiVersion":"v1","kind":"Endpoints","metadata":{"name":"web"},
        "subsets":[{"addresses":[{"ip":"192.0.2.7"}],"ports":[{"port":80}]}]}"#;
    bench.create(&endpoints(), text).await;
    let all = bench
        .until(&endpoint_slices(), "a mirrored slice", |slices| {
            ready(slices) == 1
        })
        .await;
    let slice = of_web(&all)[0];
    let manager = ["metadata", "labels", "endpointslice.kubernetes.io/managed-by"];
    assert_eq!(
        slice.str_at(&manager),
        Some("endpointslicemirroring-controller.k8s.io")
    );
    bench
        .patch(
            &endpoints(),
            "web",
            "",
            r#"{"subsets":[{"addresses":[{"ip":"192.0.2.7"},{"ip":"192.0.2.8"}],"ports":[{"port":80}]}]}"#,
        )
        .await;
    bench
        .until(&endpoint_slices(), "both addresses", |slices| ready(slices) == 2)
        .await;
    bench.delete(&services(), "web", &Value::Null).await;
    bench
        .until(&endpoint_slices(), "the end of the slices", |slices| {
            of_web(slices).is_empty()
        })
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn a_further_range_is_made_ready_and_held_while_it_is_in_use() {
    let bench = Bench::start().await;
    let ranges = GroupVersionResource::new("networking.k8s.io", "v1", "servicecidrs");
    let more = r#"{"metadata":{"name":"more"},"spec":{"cidrs":["10.200.0.0/28"]}}"#;
    bench.create(&ranges, more).await;
    let says = |word: &'static str| {
        move |range: &Value| {
            let conditions = range.items_at(&["status", "conditions"]);
            conditions.iter().any(|it| it.str_at(&["status"]) == Some(word))
        }
    };
    bench.until_one(&ranges, "more", "readiness", says("True")).await;
    let service = r#"{"metadata":{"name":"s"},"spec":{"clusterIP":"10.200.0.5","ports":[{"port":80}]}}"#;
    bench.create(&services(), service).await;
    bench
        .admin
        .delete(&ranges, "", "more", &value!({}))
        .await
        .unwrap();
    let held = bench
        .until_one(&ranges, "more", "the refusal", says("False"))
        .await;
    let condition = &held.items_at(&["status", "conditions"])[0];
    assert_eq!(condition.str_at(&["reason"]), Some("Terminating"));
    bench.delete(&services(), "s", &value!({})).await;
    let gone = |all: &[Value]| {
        all.iter()
            .all(|it| it.str_at(&["metadata", "name"]) != Some("more"))
    };
    bench.until(&ranges, "the end", gone).await;
    bench.stop().await;
}
