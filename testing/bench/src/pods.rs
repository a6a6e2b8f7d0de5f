//! How long pods take, and what they cost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::future::{join, try_join};
use http::Method;
use serde_json::{Value, json};

use crate::Bench;
use crate::api::{Api, Connection, JSON, Watch};
use crate::figure::{Report, percentile};
use crate::node::Node;
use crate::processes;

pub(crate) const IDLE: &[&str] = &["idle-memory", "idle-cpu"];
pub(crate) const FIGURES: &[&str] = &[
    "pod-p50",
    "pod-p99",
    "deletion",
    "thirty",
    "pod-memory",
    "deployment",
];
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
/// Between two that are measured one at a time: what the one before left is done by then.
const PAUSE: Duration = Duration::from_millis(100);

/// What a cluster without pods uses.
pub(crate) fn idle(bench: &Bench, report: &mut Report) -> Result<()> {
    let node = Node::started(&bench.program)?;
    std::thread::sleep(Duration::from_secs(bench.few(10, 3) as u64));
    let pids = node.processes()?;
    report.set(
        "idle-cpu",
        processes::cpu_percent(&pids, Duration::from_secs(bench.few(30, 5) as u64))?,
    );
    report.set("idle-memory", processes::resident_mb(&pids));
    Ok(())
}

/// All figures of pods and Deployments, on one cluster.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut node = Node::started(&bench.program)?;
    let rounds = bench.few(100, 15);
    let (mut creation, mut deletion) = node.run(async |api: Api| one_at_a_time(&api, rounds).await)?;
    report.set("pod-p50", percentile(&mut creation, 0.5));
    report.set("pod-p99", percentile(&mut creation, 0.99));
    let remark = format!("p99 {:.0} ms", percentile(&mut deletion, 0.99));
    report.set_with("deletion", percentile(&mut deletion, 0.5), remark);
    let mut rounds = Vec::new();
    for round in 0..bench.few(3, 1) {
        let took = node.run(async |api: Api| thirty(&api, round).await)?;
        rounds.push(took);
        let pids = node.processes()?;
        report.set_with(
            "pod-memory",
            processes::private_mb(&pids[1..]) / 30.0,
            format!("{} processes for 30 pods", pids.len() - 1),
        );
        report.set("thirty", percentile(&mut rounds, 0.5));
        node.run(async |api: Api| remove_thirty(&api, round).await)?;
    }
    let rounds = bench.few(7, 2);
    let mut took = node.run(async |api: Api| deployments(&api, rounds).await)?;
    report.set("deployment", percentile(&mut took, 0.5));
    Ok(())
}

/// A pod whose program ends when it is asked to.
pub(crate) fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec() })
}

fn spec() -> Value {
    let script = "trap 'exit 0' TERM; sleep 3600 & wait";
    json!({ "containers": [{ "name": "main", "image": cloudeck_e2e::image::BUSYBOX, "command": ["sh", "-c", script] }] })
}

/// The container of a pod that runs.
pub(crate) fn container(event: &Value) -> Option<String> {
    let status = &event["object"]["status"];
    let first = &status["containerStatuses"][0];
    (status["phase"] == "Running" && first["state"]["running"].is_object())
        .then(|| first["containerID"].as_str().unwrap_or_default().to_owned())
}

/// Milliseconds from the request to Running, and from the request to the end of the object.
async fn one_at_a_time(api: &Api, rounds: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut creation, mut deletion) = (Vec::new(), Vec::new());
    let mut watch = api.connect().await?.watch(PODS).await?;
    let mut calls = api.connect().await?;
    for round in 0..rounds {
        let name = format!("one-{round}");
        let object = pod(&name);
        let begin = Instant::now();
        let (_, at) = try_join(calls.post(PODS, &object), running(&mut watch, &name)).await?;
        creation.push((at - begin).as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
        let begin = Instant::now();
        let (_, at) = try_join(delete(&mut calls, &name), gone(&mut watch, &name)).await?;
        deletion.push((at - begin).as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    Ok((creation, deletion))
}

pub(crate) async fn delete(calls: &mut Connection, name: &str) -> Result<usize> {
    calls
        .call(Method::DELETE, &format!("{PODS}/{name}"), JSON, Bytes::new())
        .await
}

pub(crate) async fn running(watch: &mut Watch, name: &str) -> Result<Instant> {
    let is_running = |event: &Value| {
        (event["object"]["metadata"]["name"] == name && container(event).is_some()).then(Instant::now)
    };
    watch.until(&format!("{name} to run"), is_running).await
}

async fn gone(watch: &mut Watch, name: &str) -> Result<Instant> {
    let is_gone = |event: &Value| {
        (event["type"] == "DELETED" && event["object"]["metadata"]["name"] == name).then(Instant::now)
    };
    watch.until(&format!("{name} to be gone"), is_gone).await
}

/// Seconds until thirty run that were made at once.
async fn thirty(api: &Api, round: usize) -> Result<f64> {
    let mut watch = api.connect().await?.watch(PODS).await?;
    let mut connections = api.connections(30).await?;
    let begin = Instant::now();
    let posts = try_join_all(connections.iter_mut().enumerate().map(|(number, calls)| {
        let object = pod(&format!("thirty-{round}-{number}"));
        async move { calls.post(PODS, &object).await }
    }));
    let mut running = std::collections::HashSet::new();
    let all = watch.until("thirty pods to run", |event| {
        if container(event).is_some() {
            running.insert(event["object"]["metadata"]["name"].to_string());
        }
        (running.len() == 30).then(Instant::now)
    });
    let (posted, all) = join(posts, all).await;
    posted?;
    Ok((all? - begin).as_secs_f64())
}

async fn remove_thirty(api: &Api, round: usize) -> Result<()> {
    let mut watch = api.connect().await?.watch(PODS).await?;
    let mut calls = api.connect().await?;
    let prefix = format!("thirty-{round}-");
    for number in 0..30 {
        delete(&mut calls, &format!("{prefix}{number}")).await?;
    }
    all_gone(&mut watch, &prefix).await
}

/// Waits until there is no pod whose name begins so. The watch began when there were some.
async fn all_gone(watch: &mut Watch, prefix: &str) -> Result<()> {
    let mut left = std::collections::BTreeSet::new();
    let last = |event: &Value| {
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        if name.starts_with(prefix) && event["type"] == "DELETED" {
            left.remove(name);
            return left.is_empty().then_some(());
        }
        left.insert(name.to_owned());
        None
    };
    let done = watch.until("all pods to be gone", last).await;
    done.with_context(|| format!("left are {left:?}"))
}

/// Milliseconds from the request until three replicas are ready.
async fn deployments(api: &Api, rounds: usize) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    let mut calls = api.connect().await?;
    for round in 0..rounds {
        let name = format!("three-{round}");
        let labels = json!({ "app": name });
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": {
                "replicas": 3, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": spec() }
            }
        });
        let mut watch = api.connect().await?.watch(DEPLOYMENTS).await?;
        let is_ready = |event: &Value| {
            let object = &event["object"];
            (object["metadata"]["name"] == name && object["status"]["readyReplicas"] == 3).then(Instant::now)
        };
        let begin = Instant::now();
        let ready = watch.until("three replicas to be ready", is_ready);
        let (_, at) = try_join(calls.post(DEPLOYMENTS, &object), ready).await?;
        took.push((at - begin).as_secs_f64() * 1e3);
        let mut pods = api.connect().await?.watch(PODS).await?;
        let path = format!("{DEPLOYMENTS}/{name}?propagationPolicy=Background");
        calls.call(Method::DELETE, &path, JSON, Bytes::new()).await?;
        all_gone(&mut pods, &format!("{name}-")).await?;
    }
    Ok(took)
}
