//! How long a start takes: of an empty machine, and of one that lost power.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::Bench;
use crate::api::Api;
use crate::figure::{Report, percentile};
use crate::node::Node;
use crate::pods::{self, PODS};

pub(crate) const FIGURES: &[&str] = &["start-ready", "start-pod", "restart"];

/// Every time a new machine: the middle one of three.
pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut ready, mut first, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.few(3, 1) {
        let mut node = Node::new(&bench.program)?;
        let begin = node.up()?;
        let (at_ready, at_running, before) = node.run(async |api: Api| from_nothing(&api).await)?;
        ready.push((at_ready - begin).as_secs_f64());
        first.push((at_running - begin).as_secs_f64());
        report.set("start-ready", percentile(&mut ready, 0.5));
        report.set("start-pod", percentile(&mut first, 0.5));
        node.lose_power();
        let begin = node.up()?;
        let at = node.run(async |api: Api| another_container(&api, &before).await)?;
        again.push((at - begin).as_secs_f64());
        report.set("restart", percentile(&mut again, 0.5));
    }
    Ok(())
}

/// The times of the node's readiness and of the first pod, and its container.
async fn from_nothing(api: &Api) -> Result<(Instant, Instant, String)> {
    until_it_answers(api).await;
    let (ready, running) = futures_util::future::join(node_ready(api), first_pod(api)).await;
    let (running, container) = running?;
    Ok((ready?, running, container))
}

/// The API says nothing before it listens: it can only be tried.
async fn until_it_answers(api: &Api) {
    while api.connect().await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// When the node was seen to be ready.
pub(crate) async fn node_ready(api: &Api) -> Result<Instant> {
    let mut nodes = api.connect().await?.watch("/api/v1/nodes").await?;
    let is_ready = |event: &serde_json::Value| {
        let conditions = event["object"]["status"]["conditions"].as_array()?;
        conditions
            .iter()
            .any(|one| one["type"] == "Ready" && one["status"] == "True")
            .then(Instant::now)
    };
    nodes.until("the node to be ready", is_ready).await
}

async fn first_pod(api: &Api) -> Result<(Instant, String)> {
    let mut watch = api.connect().await?.watch(PODS).await?;
    api.namespace("default")
        .await
        .context("wait for the default service account")?;
    let mut calls = api.connect().await?;
    calls.post(PODS, &pods::pod("first")).await?;
    watch
        .until("the first pod to run", |event| {
            Some((Instant::now(), pods::container(event)?))
        })
        .await
}

/// When the pod ran in a container that is not `before`.
async fn another_container(api: &Api, before: &str) -> Result<Instant> {
    until_it_answers(api).await;
    let mut watch = api.connect().await?.watch(PODS).await?;
    let is_new = |event: &serde_json::Value| (pods::container(event)? != before).then(Instant::now);
    watch.until("the pod to run again", is_new).await
}
