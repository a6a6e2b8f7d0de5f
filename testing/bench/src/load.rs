//! Load through the API over TLS: keep-alive connections, JSON, 1.4 KB pods that nobody schedules.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Connection, Endpoint};
use crate::table::{Better, Table, ms, quantile};

const PODS: &str = "/api/v1/namespaces/default/pods";
/// How many pods a list has.
const LISTED: usize = 5_000;
const WATCHERS: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Create,
    Get,
    Patch,
    List,
}

/// All rows of load.
pub(crate) async fn all(table: &mut Table, endpoint: &Endpoint, length: Duration) -> Result<()> {
    fill(endpoint, LISTED).await?;
    let rows = [
        ("LIST of 5,000 pods, 4 clients", Load::List, 4, 4.0, "× 30"),
        ("GET, 64 clients", Load::Get, 64, 4_320.0, "× 5"),
        ("merge-patch, 16 clients", Load::Patch, 16, 779.0, "× 5"),
        (
            "durable pod creates, 1 client",
            Load::Create,
            1,
            605.0,
            "× 5, goal × 10",
        ),
        (
            "durable pod creates, 16 clients",
            Load::Create,
            16,
            1_220.0,
            "× 5, goal × 10",
        ),
        (
            "durable pod creates, 64 clients",
            Load::Create,
            64,
            1_449.0,
            "× 5, goal × 10",
        ),
    ];
    for (what, load, clients, kubernetes, bar) in rows {
        let rate = run(endpoint, load, clients, length).await?;
        table.add(what, kubernetes, rate, "per s", Better::More, bar);
    }
    let mut times = watchers(endpoint, length).await?;
    let p99 = ms(quantile(&mut times, 0.99));
    table.add(
        "500 watchers, 100 changes/s: delivery p99",
        26.0,
        p99,
        "ms",
        Better::Less,
        "10 ms",
    );
    Ok(())
}

async fn fill(endpoint: &Endpoint, count: usize) -> Result<()> {
    const CONNECTIONS: usize = 16;
    each(CONNECTIONS, |number| {
        let endpoint = endpoint.clone();
        async move {
            let mut connection = endpoint.connect().await?;
            for at in (number..count).step_by(CONNECTIONS) {
                connection.create(PODS, &pod(&format!("pod-{at}"))).await?;
            }
            Ok(0)
        }
    })
    .await
    .map(drop)
}

/// Runs as many tasks and adds up what they return.
async fn each<F: Future<Output = Result<u64>> + Send + 'static>(
    count: usize,
    task: impl Fn(usize) -> F,
) -> Result<u64> {
    let handle = tokio::runtime::Handle::current();
    let tasks: Vec<_> = (0..count).map(|number| handle.spawn(task(number))).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await??;
    }
    Ok(sum)
}

/// Requests per second.
async fn run(endpoint: &Endpoint, load: Load, clients: usize, length: Duration) -> Result<f64> {
    let begun = Instant::now();
    let run = begun.elapsed().as_nanos() + SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
    let done = each(clients, |number| {
        let endpoint = endpoint.clone();
        async move {
            let mut connection = endpoint.connect().await?;
            let mut done = 0;
            while begun.elapsed() < length {
                one(&mut connection, load, &format!("{run}-{number}-{done}"), number).await?;
                done += 1;
            }
            Ok(done)
        }
    })
    .await?;
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}

async fn one(connection: &mut Connection, load: Load, name: &str, number: usize) -> Result<()> {
    let path = format!("{PODS}/pod-{number}");
    match load {
        Load::Create => connection.create(PODS, &pod(&format!("load-{name}"))).await,
        Load::Get => connection.send("GET", &path, "", "").await.map(drop),
        Load::List => connection.send("GET", PODS, "", "").await.map(drop),
        Load::Patch => {
            let patch = json!({"metadata": {"annotations": {"n": name}}}).to_string();
            connection
                .send("PATCH", &path, "application/merge-patch+json", patch)
                .await
                .map(drop)
        }
    }
}

/// How long each change took to reach each watcher.
async fn watchers(endpoint: &Endpoint, length: Duration) -> Result<Vec<Duration>> {
    const PATH: &str = "/api/v1/namespaces/default/configmaps";
    let mut writer = endpoint.connect().await?;
    writer
        .create(PATH, &json!({"metadata": {"name": "watched"}}))
        .await?;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(WATCHERS);
    for _ in 0..WATCHERS {
        let mut watch = endpoint
            .connect()
            .await?
            .watch(&format!("{PATH}?watch=1"))
            .await?;
        let sender = sender.clone();
        tokio::runtime::Handle::current().spawn(async move {
            let mut times = Vec::new();
            while let Ok(Ok(line)) = tokio::time::timeout(Duration::from_secs(2), watch.next_line()).await {
                times.extend(sent_at(&line).map(|sent| now().saturating_sub(sent)));
            }
            // The receiver counts watchers, so each tells exactly once.
            let _ = sender.send(times).await;
        });
    }
    drop(sender);
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while begun.elapsed() < length {
        ticks.tick().await;
        let patch =
            json!({"metadata": {"annotations": {"sent-at": now().as_nanos().to_string()}}}).to_string();
        writer
            .send(
                "PATCH",
                &format!("{PATH}/watched"),
                "application/merge-patch+json",
                patch,
            )
            .await?;
    }
    let mut all = Vec::new();
    while let Some(times) = receiver.recv().await {
        all.extend(times);
    }
    Ok(all)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn sent_at(line: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(line).ok()?;
    let (_, rest) = text.split_once("\"sent-at\":\"")?;
    Some(Duration::from_nanos(rest.split_once('"')?.0.parse().ok()?))
}

/// A pod of 1.4 KB, as clients write them.
fn pod(name: &str) -> Value {
    let variables: Vec<_> = (0..12)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": format!("value-{n}-of-the-pod")}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "load", "tier": "backend", "release": "stable"},
            "annotations": {"example.test/description": "made by the load generator to have the size of an ordinary pod"}},
        "spec": {"schedulerName": "none", "containers": [{
            "name": "main", "image": "registry.example.test/team/application:1.2.3", "env": variables,
            "ports": [{"name": "http", "containerPort": 8080}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        }]},
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pod_has_the_size_that_the_acceptance_names() {
        let size = super::pod("load-0").to_string().len();
        assert!((1_300..1_500).contains(&size), "{size}");
    }
}
