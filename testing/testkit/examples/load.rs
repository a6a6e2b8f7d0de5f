//! Load on the real server over TLS, generator in the same process: `load create|get|patch|list|watch CLIENTS SECONDS`.
//! `watch` opens as many watches and tells how long a change takes to reach them at 100 changes a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloudeck_engine::{EmbeddedOptions, EmbeddedStore};
use cloudeck_task::Scope;
use cloudeck_testkit::TestServer;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mode = words.first().map_or("create", String::as_str).to_owned();
    let clients: usize = words.get(1).map_or(Ok(16), |word| word.parse())?;
    let seconds: u64 = words.get(2).map_or(Ok(3), |word| word.parse())?;
    let begun = Instant::now();
    let scope = Scope::root("load");
    let directory = tempfile::tempdir_in(".")?;
    let store = EmbeddedStore::open(directory.path(), EmbeddedOptions::default(), &scope)?;
    let test = Arc::new(TestServer::start_on(Arc::new(store), scope).await?);
    println!("ready after {:?}", begun.elapsed());
    let account = cloudeck_machinery::value!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts = cloudeck_machinery::GroupVersionResource::new("", "v1", "serviceaccounts");
    test.admin().create(&accounts, "default", &account).await?;
    let existing = if mode == "list" { 5_000 } else { 64 };
    prepare(&test, existing).await?;
    let done = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (test, mode, done) = (Arc::clone(&test), mode.clone(), Arc::clone(&done));
        tasks.push(run(test, mode, client, until, done));
    }
    let started = Instant::now();
    let handles: Vec<_> = tasks
        .into_iter()
        .map(|task| tokio::runtime::Handle::current().spawn(task))
        .collect();
    if mode == "watch" {
        change(&test, until).await?;
    }
    let mut latencies = Vec::new();
    for handle in handles {
        latencies.extend(handle.await??);
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{mode} clients={clients} {:.0}/s p50={:?} p99={:?}",
        done.load(Ordering::Relaxed) as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99)
    );
    Ok(())
}

async fn prepare(test: &TestServer, count: usize) -> anyhow::Result<()> {
    let mut sender = connect(test).await?;
    for at in 0..count {
        send(
            &mut sender,
            "POST",
            PODS,
            "application/json",
            pod(&format!("pod-{at}")),
        )
        .await?;
    }
    Ok(())
}

async fn run(
    test: Arc<TestServer>,
    mode: String,
    client: usize,
    until: Instant,
    done: Arc<AtomicU64>,
) -> anyhow::Result<Vec<Duration>> {
    let mut sender = connect(&test).await?;
    let mut latencies = Vec::new();
    let mut count = 0_u64;
    while Instant::now() < until {
        count += 1;
        let begin = Instant::now();
        match mode.as_str() {
            "create" => {
                let name = format!("load-{client}-{count}");
                send(&mut sender, "POST", PODS, "application/json", pod(&name)).await?;
            }
            "get" => {
                let path = format!("{PODS}/pod-{}", client % 64);
                send(&mut sender, "GET", &path, "", Bytes::new()).await?;
            }
            "watch" => return watch(&mut sender, until, &done).await,
            "list" => send(&mut sender, "GET", PODS, "", Bytes::new()).await?,
            _ => {
                let patch = format!(r#"{{"metadata":{{"annotations":{{"n":"{count}"}}}}}}"#);
                let path = format!("{PODS}/pod-{}", client % 64);
                send(
                    &mut sender,
                    "PATCH",
                    &path,
                    "application/merge-patch+json",
                    patch.into(),
                )
                .await?;
            }
        }
        latencies.push(begin.elapsed());
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(latencies)
}

/// Times the way of every change from its writer to this watch.
async fn watch(
    sender: &mut SendRequest<Full<Bytes>>,
    until: Instant,
    done: &AtomicU64,
) -> anyhow::Result<Vec<Duration>> {
    let request = http::Request::builder()
        .uri(format!("{PODS}?watch=1&fieldSelector=metadata.name%3Dpod-0"))
        .header("host", "x");
    let mut body = sender
        .send_request(request.body(Full::new(Bytes::new()))?)
        .await?
        .into_body();
    let mut latencies = Vec::new();
    loop {
        let frame = match tokio::time::timeout_at(until.into(), body.frame()).await {
            Ok(Some(frame)) => frame?,
            _ => return Ok(latencies),
        };
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let now = nanos();
        let text = String::from_utf8_lossy(data);
        for (at, mark) in text.match_indices("\"sent-at\":\"") {
            let digits: String = text[at + mark.len()..]
                .chars()
                .take_while(char::is_ascii_digit)
                .collect();
            latencies.push(Duration::from_nanos(now.saturating_sub(digits.parse()?) as u64));
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A hundred changes a second.
async fn change(test: &TestServer, until: Instant) -> anyhow::Result<()> {
    let pods = cloudeck_machinery::GroupVersionResource::new("", "v1", "pods");
    let client = test.admin();
    // Let the watches open first.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while Instant::now() < until {
        tick.tick().await;
        let patch =
            cloudeck_machinery::value!({"metadata": {"annotations": {"sent-at": (nanos().to_string())}}});
        client.merge_patch(&pods, "default", "pod-0", "", &patch).await?;
    }
    Ok(())
}

fn nanos() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}

async fn connect(test: &TestServer) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let authority = test.pki.serving_authority.certificate_pem();
    let config = cloudeck_pki::client_config(authority, Some(&test.pki.admin), &[b"http/1.1"])?;
    let stream = tokio::net::TcpStream::connect(test.address()).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::IpAddress(test.address().ip().into());
    let stream = tokio_rustls::TlsConnector::from(config)
        .connect(name, stream)
        .await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    drop(tokio::runtime::Handle::current().spawn(connection));
    Ok(sender)
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    content_type: &str,
    body: Bytes,
) -> anyhow::Result<()> {
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "x")
        .header("user-agent", "load/1");
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    sender.ready().await?;
    let response = sender.send_request(request.body(Full::new(body))?).await?;
    let status = response.status();
    let bytes = if status.is_success() {
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Bytes::new()
    } else {
        response.into_body().collect().await?.to_bytes()
    };
    anyhow::ensure!(
        status.is_success(),
        "{status}: {}",
        String::from_utf8_lossy(&bytes)
    );
    Ok(())
}

fn pod(name: &str) -> Bytes {
    let filler = "x".repeat(700);
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"load"}},"annotations":{{"filler":"{filler}"}}}},"spec":{{"schedulerName":"none","automountServiceAccountToken":false,"containers":[{{"name":"c","image":"registry.example.com/load:1","command":["sleep","3600"],"env":[{{"name":"A","value":"b"}}],"resources":{{"requests":{{"cpu":"10m","memory":"16Mi"}}}}}}]}}}}"#
    )
    .into()
}
