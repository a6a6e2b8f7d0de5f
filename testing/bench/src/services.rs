//! How long the way to a pod takes to open.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join;
use http::Method;
use serde_json::json;

use crate::Bench;
use crate::api::{Api, Connection, MERGE};
use crate::figure::{Report, percentile};
use crate::node::Node;
use crate::pods::{self, PODS};

pub(crate) const FIGURES: &[&str] = &["endpoint", "service"];
const SERVICES: &str = "/api/v1/namespaces/default/services";

pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut node = Node::started(&bench.program)?;
    node.run(async |api: Api| server(&api).await)?;
    let rounds = bench.few(20, 5);
    let mut service = node.run(async |api: Api| new_services(&api, rounds).await)?;
    let remark = format!("p99 {:.1} ms", percentile(&mut service, 0.99));
    report.set_with("service", percentile(&mut service, 0.5), remark);
    let mut endpoint = node.run(async |api: Api| new_endpoints(&api, rounds).await)?;
    let remark = format!("p99 {:.1} ms", percentile(&mut endpoint, 0.99));
    report.set_with("endpoint", percentile(&mut endpoint, 0.5), remark);
    Ok(())
}

/// A pod that listens.
async fn server(api: &Api) -> Result<()> {
    let mut watch = api.connect().await?.watch(PODS).await?;
    let mut calls = api.connect().await?;
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "server", "labels": { "serves": "all" } },
        "spec": { "containers": [{
            "name": "main", "image": cloudeck_e2e::image::BUSYBOX, "command": ["httpd", "-f", "-p", "8080", "-h", "/www"]
        }] }
    });
    try_join(calls.post(PODS, &object), pods::running(&mut watch, "server")).await?;
    let pod = calls
        .json(Method::GET, &format!("{PODS}/server"), MERGE, bytes::Bytes::new())
        .await?;
    let address = pod["status"]["podIP"]
        .as_str()
        .context("the pod has no address")?;
    first_connection(format!("{address}:8080").parse()?).map(drop)
}

/// From the answer to the request that makes a Service of a running pod, in milliseconds.
async fn new_services(api: &Api, rounds: usize) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    let mut calls = api.connect().await?;
    for round in 0..rounds {
        let address = service(&mut calls, &format!("new-{round}"), "serves", "all").await?;
        took.push(first_connection(address)?.as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(took)
}

/// From the answer to the request that makes a ready pod an endpoint of an existing Service, in milliseconds.
async fn new_endpoints(api: &Api, rounds: usize) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    let mut calls = api.connect().await?;
    for round in 0..rounds {
        let label = format!("serves-{round}");
        let address = service(&mut calls, &format!("old-{round}"), &label, "too").await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        ensure!(
            TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err(),
            "a Service without endpoints answers"
        );
        let patch = json!({ "metadata": { "labels": { label.as_str(): "too" } } });
        calls
            .call(
                Method::PATCH,
                &format!("{PODS}/server"),
                MERGE,
                patch.to_string().into(),
            )
            .await?;
        took.push(first_connection(address)?.as_secs_f64() * 1e3);
    }
    Ok(took)
}

async fn service(calls: &mut Connection, name: &str, label: &str, value: &str) -> Result<SocketAddr> {
    let object = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "selector": { label: value }, "ports": [{ "port": 80, "targetPort": 8080 }] }
    });
    let made = calls.post(SERVICES, &object).await?;
    let address = made["spec"]["clusterIP"]
        .as_str()
        .context("the Service has no address")?;
    Ok(format!("{address}:80").parse()?)
}

/// How long it takes from now until somebody accepts. Nothing tells of that but the attempt.
fn first_connection(address: SocketAddr) -> Result<Duration> {
    let begin = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, Duration::from_millis(20)) {
            Ok(_) => return Ok(begin.elapsed()),
            Err(error) => ensure!(
                begin.elapsed() < Duration::from_secs(10),
                "nobody accepts at {address}: {error}"
            ),
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
