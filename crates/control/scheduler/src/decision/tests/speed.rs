//! How many pods a second find their node. Not part of the tests, for it is told of optimised code only:
//! `cargo test -p cloudeck-scheduler --config 'profile.dev.package.cloudeck-scheduler.opt-level=3' -- --ignored --nocapture`

use std::time::Instant;

use super::*;
use crate::model::tests::object;

const NODES: usize = 5_000;
const PODS: usize = 10_000;

fn cluster() -> Cache {
    let texts: Vec<(String, String)> = (0..NODES)
        .map(|n| {
            let labels = format!(
                r#"{{"metadata":{{"labels":{{"kubernetes.io/hostname":"node-{n}","topology.kubernetes.io/zone":"zone-{}"}}}},
                "status":{{"allocatable":{{"cpu":"32","memory":"128Gi","ephemeral-storage":"100Gi","pods":"110"}}}}}}"#,
                n % 3
            );
            (format!("node-{n}"), labels)
        })
        .collect();
    let nodes: Vec<(&str, &str)> = texts.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    cache_of(&nodes)
}

/// Places pods made from the template, one after the other, and tells how fast.
fn measure(name: &str, cache: &mut Cache, template: &PodInfo) {
    let (plugins, mut search) = (default_plugins(), Search::default());
    let began = Instant::now();
    for at in 0..PODS {
        let mut waiting = template.clone();
        waiting.uid = format!("{name}-{at}").into();
        let Decision::Node(node) = schedule(&waiting, cache, &plugins, &mut search) else {
            panic!("no room for {name} {at}")
        };
        cache.assume(waiting, &node);
    }
    let rate = PODS as f64 / began.elapsed().as_secs_f64();
    println!("{name}: {rate:.0} pods/s on {NODES} nodes");
    if name == "basic" {
        assert!(rate >= 5_000.0);
    }
}

fn template(labels: &str, more: &str) -> PodInfo {
    pod(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"default","labels":{labels},"ownerReferences":[
            {{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"u","controller":true}}]}},"spec":{{
            "containers":[{{"name":"c","image":"i","resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}}}}}}]{more}}}}}"#
    ))
}

#[test]
#[ignore = "a measurement"]
fn five_thousand_pods_a_second_find_their_node_among_five_thousand() {
    let mut cache = cluster();
    measure("basic", &mut cache, &template(r#"{"app":"basic"}"#, ""));
    let set = cloudeck_machinery::json::parse(
        br#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"web"}}}}"#,
    );
    let key = cloudeck_machinery::ObjectKey::new("default", "web");
    cache
        .surroundings
        .set_workload("ReplicaSet", &key, Some(&object(&set.unwrap())));
    measure("replicas", &mut cache, &template(r#"{"app":"web"}"#, ""));
    let apart = r#","affinity":{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":100,
        "podAffinityTerm":{"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"app":"apart"}}}}]}}"#;
    measure("wishing", &mut cache, &template(r#"{"app":"apart"}"#, apart));
    let spread = r#","topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"topology.kubernetes.io/zone",
        "whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"spread"}}}]"#;
    measure("spread", &mut cache, &template(r#"{"app":"spread"}"#, spread));
    measure(
        "basic beside them",
        &mut cache,
        &template(r#"{"app":"basic"}"#, ""),
    );
}
