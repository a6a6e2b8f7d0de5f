//! Load on the API: as many requests as so many clients can make, one after the other on a connection each.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream::{FuturesUnordered, TryStreamExt as _};
use http::Method;

use crate::Bench;
use crate::api::{Api, JSON, MERGE};
use crate::figure::{Report, percentile};
use crate::node::Node;
use crate::wire::Wire;
use crate::{processes, watchers};

pub(crate) const FIGURES: &[&str] = &[
    "create-1",
    "create-16",
    "create-64",
    "get",
    "patch",
    "list",
    "watch",
    "load-memory",
];
/// How many pods a list has.
const LISTED: usize = 5_000;

/// All rows on one cluster, and the memory after them. A row that fails does not hold up the others.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut node = Node::started(&bench.program)?;
    let time = Duration::from_secs(bench.few(10, 2) as u64);
    for (id, clients) in [("create-1", 1), ("create-16", 16), ("create-64", 64)] {
        let begin = node.processor_time()?;
        let row = node.run(async |api: Api| creates(&api, id, clients, time).await);
        set(report, id, row, node.processor_time()?.saturating_sub(begin));
        node.run(async |api: Api| empty(&api, id).await)?;
    }
    node.run(async |api: Api| fill(&api).await)?;
    let begin = node.processor_time()?;
    let row = node.run(async |api: Api| repeat(&api, 64, time, get).await);
    set(report, "get", row, node.processor_time()?.saturating_sub(begin));
    let begin = node.processor_time()?;
    let row = node.run(async |api: Api| repeat(&api, 16, time, patch).await);
    set(report, "patch", row, node.processor_time()?.saturating_sub(begin));
    let begin = node.processor_time()?;
    let row = node.run(async |api: Api| repeat(&api, 4, time, list).await);
    set(report, "list", row, node.processor_time()?.saturating_sub(begin));
    match node.run(async |api: Api| watchers::measure(&api, time).await) {
        Ok((p99, remark)) => report.set_with("watch", p99, remark),
        Err(error) => report.fail(&["watch"], &format!("{error:#}")),
    }
    // Buffers of closed connections are given back when the server is idle.
    std::thread::sleep(Duration::from_secs(5));
    report.set("load-memory", processes::resident_mb(&node.processes()?));
    Ok(())
}

/// `used` is what the server's processes used of the processors meanwhile: it tells a slow server from a busy machine.
fn set(report: &mut Report, id: &'static str, row: Result<Row>, used: Duration) {
    match row {
        Ok(Row { rate, mut latencies }) => {
            let each = used.as_secs_f64() * 1e6 / latencies.len().max(1) as f64;
            let (p50, p99) = (percentile(&mut latencies, 0.5), percentile(&mut latencies, 0.99));
            let remark = format!("p50 {p50:.1}, p99 {p99:.1} ms; {each:.0} µs of CPU each");
            report.set_with(id, rate, remark);
        }
        Err(error) => report.fail(&[id], &format!("{error:#}")),
    }
}

struct Row {
    rate: f64,
    /// Milliseconds.
    latencies: Vec<f64>,
}

/// A client's number and which request of it this is.
#[derive(Clone, Copy)]
struct Turn {
    client: usize,
    count: usize,
}

/// Runs `request` on every connection again and again.
async fn repeat(
    api: &Api,
    clients: usize,
    time: Duration,
    request: impl AsyncFn(&mut Wire, Turn) -> Result<usize>,
) -> Result<Row> {
    let mut connections = api.wires(clients).await?;
    let begin = Instant::now();
    // Each has its turn: joined, the first would read a long answer to its end before the others were looked at.
    let clients: FuturesUnordered<_> = connections
        .iter_mut()
        .enumerate()
        .map(|(client, connection)| (client, connection, &request))
        .map(async |(client, connection, request)| {
            let mut latencies = Vec::new();
            for count in 0.. {
                let start = Instant::now();
                if start - begin >= time {
                    break;
                }
                request(connection, Turn { client, count }).await?;
                latencies.push(start.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(latencies)
        })
        .collect();
    let latencies: Vec<f64> = clients.try_concat().await?;
    Ok(Row {
        rate: latencies.len() as f64 / begin.elapsed().as_secs_f64(),
        latencies,
    })
}

/// Creates pods in a namespace of their own.
async fn creates(api: &Api, namespace: &str, clients: usize, time: Duration) -> Result<Row> {
    api.namespace(namespace).await?;
    let path = pods_of(namespace);
    repeat(api, clients, time, async |connection, Turn { client, count }| {
        connection
            .call(Method::POST, &path, JSON, pod(&format!("p-{client}-{count}")))
            .await
    })
    .await
}

async fn empty(api: &Api, namespace: &str) -> Result<usize> {
    let mut connection = api.connect().await?;
    connection
        .call(Method::DELETE, &pods_of(namespace), JSON, Bytes::new())
        .await
}

/// As many pods as are listed later.
async fn fill(api: &Api) -> Result<()> {
    api.namespace("full").await?;
    let path = pods_of("full");
    let mut connections = api.wires(16).await?;
    let clients = connections.len();
    try_join_all(connections.iter_mut().enumerate().map(|(client, connection)| {
        let path = &path;
        async move {
            for number in (client..LISTED).step_by(clients) {
                connection
                    .call(Method::POST, path, JSON, pod(&format!("p-{number}")))
                    .await?;
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    Ok(())
}

async fn get(connection: &mut Wire, turn: Turn) -> Result<usize> {
    let path = format!("{}/p-{}", pods_of("full"), turn.client);
    connection.call(Method::GET, &path, JSON, Bytes::new()).await
}

async fn patch(connection: &mut Wire, turn: Turn) -> Result<usize> {
    let path = format!("{}/p-{}", pods_of("full"), turn.client);
    let patch = format!(r#"{{"metadata":{{"annotations":{{"turn":"{}"}}}}}}"#, turn.count);
    connection.call(Method::PATCH, &path, MERGE, patch.into()).await
}

async fn list(connection: &mut Wire, _: Turn) -> Result<usize> {
    connection
        .call(Method::GET, &pods_of("full"), JSON, Bytes::new())
        .await
}

pub(crate) fn pods_of(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// A pod of 1.4 KB that no scheduler looks at.
pub(crate) fn pod(name: &str) -> Bytes {
    let filler = "x".repeat(940);
    format!(
        concat!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"load","tier":"bench"}},"#,
            r#""annotations":{{"filler":"{filler}"}}}},"spec":{{"schedulerName":"none","terminationGracePeriodSeconds":30,"#,
            r#""containers":[{{"name":"main","image":"registry.example.com/team/load:1.0","command":["sleep","3600"],"#,
            r#""env":[{{"name":"A","value":"b"}},{{"name":"C","value":"d"}}],"ports":[{{"containerPort":8080}}],"#,
            r#""resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}},"limits":{{"memory":"32Mi"}}}}}}]}}}}"#
        ),
        name = name,
        filler = filler
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_as_large_as_it_says() {
        let pod = pod("p-1");
        assert!((1_380..1_460).contains(&pod.len()), "{}", pod.len());
        serde_json::from_slice::<serde_json::Value>(&pod).unwrap();
    }
}
