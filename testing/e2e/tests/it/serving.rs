//! What runs goes on being served while the daemon is away, and is called ready all the time.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cloudeck_e2e::{Cluster, eventually, get};
use serde_json::Value;

use crate::manifests::web;

/// What is watched, with the name in messages.
const WATCHED: [(&str, &str); 3] = [
    ("node", "/api/v1/nodes"),
    ("pod", "/api/v1/namespaces/default/pods"),
    (
        "slice",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
    ),
];

#[test]
fn a_kill_makes_nothing_unready_and_no_connection_fails() {
    let mut cluster = Cluster::start();
    cluster.apply(&web("web", 3, "v1"));
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    let service: Ipv4Addr = cluster.field("service web", "{.spec.clusterIP}").parse().unwrap();
    eventually("the first answer", || {
        cluster.get(service, 80).map_err(|e| e.to_string())
    });
    let before = revisions(&cluster);
    let network = cluster.machine().network();
    let (over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                get(&network, service, 80)?;
                answers.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), std::io::Error>(())
        });
        // Ends the client also when something below fails.
        let _over = SetAtEnd(&over);
        for _ in 0..3 {
            let before = heartbeat(&cluster);
            eventually("a second in which the next sign of life differs", || {
                let now = cluster.machine().shell("date -u +%Y-%m-%dT%H:%M:%SZ");
                if now.trim() == before { Err(now) } else { Ok(()) }
            });
            cluster.kill_daemon();
            await_more(&answers, 50);
            cluster.up();
            eventually("the new agent's word on its node", || {
                let now = heartbeat(&cluster);
                if now == before { Err(now) } else { Ok(()) }
            });
            await_more(&answers, 50);
        }
        over.store(true, Ordering::Relaxed);
        let outcome = client.join().unwrap();
        assert!(outcome.is_ok(), "after {answers:?} answers: {outcome:?}");
    });
    for ((what, path), revision) in WATCHED.into_iter().zip(before) {
        let seen = events_since(&cluster, path, &revision);
        assert!(what != "node" || seen.len() >= 3, "its agents spoke: {seen:#?}");
        let fallen: Vec<&Value> = seen.iter().filter(|event| !is_ready(&event["object"])).collect();
        assert!(fallen.is_empty(), "{what} unready in {fallen:#?}");
    }
}

/// Sets it when dropped.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn await_more(answers: &AtomicU64, count: u64) {
    let enough = answers.load(Ordering::Relaxed) + count;
    eventually("more answers", || {
        let now = answers.load(Ordering::Relaxed);
        if now >= enough {
            Ok(())
        } else {
            Err(now.to_string())
        }
    });
}

/// When the node last spoke of itself.
fn heartbeat(cluster: &Cluster) -> String {
    cluster.field(
        "nodes",
        "{.items[0].status.conditions[?(@.type=='Ready')].lastHeartbeatTime}",
    )
}

/// Where the watches will begin.
fn revisions(cluster: &Cluster) -> Vec<String> {
    let revision = |(_, path): (&str, &str)| {
        let list = cluster.kubectl_words(&["get", "--raw", path]).ok();
        let list: Value = serde_json::from_str(&list).unwrap();
        list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    };
    WATCHED.into_iter().map(revision).collect()
}

/// Everything that happened since, daemons in between or not.
fn events_since(cluster: &Cluster, path: &str, revision: &str) -> Vec<Value> {
    let path = format!("{path}?watch=true&timeoutSeconds=1&resourceVersion={revision}");
    let text = cluster.kubectl_words(&["get", "--raw", &path]).ok();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Of a node, a pod, or all endpoints of a slice. The answer to a failed watch is neither.
fn is_ready(object: &Value) -> bool {
    if let Some(endpoints) = object["endpoints"].as_array() {
        return endpoints.len() == 3 && endpoints.iter().all(|it| it["conditions"]["ready"] == true);
    }
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter()
            .any(|it| it["type"] == "Ready" && it["status"] == "True")
    })
}
