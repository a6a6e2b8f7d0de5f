//! Many watchers of the same pods: how long a change takes from its request to each of them.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::{join_all, select};
use http::Method;

use crate::api::{Api, Connection, JSON, MERGE, Watch};
use crate::figure::percentile;
use crate::requests;

const WATCHERS: usize = 500;
const PODS: usize = 10;
/// A hundred changes a second.
const INTERVAL: Duration = Duration::from_millis(10);
const NAMESPACE: &str = "watched";

/// Milliseconds that 99 of 100 deliveries did not exceed, and what else was seen.
pub(crate) async fn measure(api: &Api, time: Duration) -> Result<(f64, String)> {
    api.namespace(NAMESPACE).await?;
    let path = requests::pods_of(NAMESPACE);
    let mut calls = api.connect().await?;
    for number in 0..PODS {
        calls
            .call(Method::POST, &path, JSON, requests::pod(&format!("p-{number}")))
            .await?;
    }
    let mut watches = Vec::with_capacity(WATCHERS);
    for _ in 0..WATCHERS {
        let mut watch = api.connect().await?.watch(&path).await?;
        for _ in 0..PODS {
            watch.next().await?;
        }
        watches.push(watch);
    }
    let delays = RefCell::new(Vec::with_capacity(WATCHERS * 1_200));
    let epoch = Instant::now();
    let watching = join_all(watches.iter_mut().map(|watch| deliveries(watch, epoch, &delays)));
    let changing = change(&mut calls, &path, epoch, time);
    tokio::pin!(watching, changing);
    let changes = match select(watching, changing).await {
        futures_util::future::Either::Left(_) => anyhow::bail!("all watches ended"),
        futures_util::future::Either::Right((changes, _)) => changes?,
    };
    let mut delays = delays.take();
    let due = changes * WATCHERS;
    ensure!(
        delays.len() * 100 > due * 98,
        "only {} of {due} deliveries came",
        delays.len()
    );
    let p50 = percentile(&mut delays, 0.5);
    let rate = changes as f64 / time.as_secs_f64();
    Ok((
        percentile(&mut delays, 0.99),
        format!("p50 {p50:.1} ms at {rate:.0} changes/s"),
    ))
}

/// Notes the age of every change that comes. Ends only with the watch.
async fn deliveries(watch: &mut Watch, epoch: Instant, delays: &RefCell<Vec<f64>>) {
    const MARK: &[u8] = b"\"sent-at\":\"";
    let finder = memchr::memmem::Finder::new(MARK);
    while let Ok(data) = watch.frame().await {
        let now = epoch.elapsed().as_nanos() as u64;
        for at in finder.find_iter(&data) {
            let digits = data[at + MARK.len()..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit());
            let sent = digits.fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
            delays.borrow_mut().push(now.saturating_sub(sent) as f64 / 1e6);
        }
    }
}

/// Writes the time into one pod after the other, and waits for the last to arrive. How many changes it made.
async fn change(calls: &mut Connection, path: &str, epoch: Instant, time: Duration) -> Result<usize> {
    let mut tick = tokio::time::interval(INTERVAL);
    let mut changes = 0;
    while epoch.elapsed() < time {
        tick.tick().await;
        let now = epoch.elapsed().as_nanos();
        let patch = format!(r#"{{"metadata":{{"annotations":{{"sent-at":"{now}"}}}}}}"#);
        let path = format!("{path}/p-{}", changes % PODS);
        calls.call(Method::PATCH, &path, MERGE, patch.into()).await?;
        changes += 1;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(changes)
}
