//! Measures the embedded store: `store_bench [directory] [seconds per row]`.
//!
//! One row per figure, on standard output: name, value, unit. Objects of 1.5 KB, as a pod is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cloudeck_engine::{
    EmbeddedOptions, EmbeddedStore, KeyRange, RangeRequest, Revision, Store, Txn, WatchRequest,
};
use cloudeck_task::Scope;
use tokio::sync::mpsc;

const OBJECTS: usize = 50_000;
const VALUE_BYTES: usize = 1500;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1).peekable();
    let reopens = arguments.next_if(|argument| argument == "open").is_some();
    let directory = arguments.next().map_or_else(
        || std::env::temp_dir().join("cloudeck-store-bench"),
        PathBuf::from,
    );
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if reopens {
        return runtime.block_on(open_again(&directory));
    }
    let outcome = runtime.block_on(run(&directory, Duration::from_secs(seconds)));
    std::fs::remove_dir_all(&directory)?;
    outcome
}

async fn open_again(directory: &Path) -> Result<(), BoxError> {
    let scope = Scope::root("bench");
    let began = Instant::now();
    let store = EmbeddedStore::open(directory, EmbeddedOptions::default(), &scope)?;
    let name = format!(
        "open, {} keys, {:.0} MB",
        store.status().keys,
        store.status().disk_bytes as f64 / 1e6
    );
    print(&name, began.elapsed().as_secs_f64() * 1000.0, "ms");
    print("resident after opening", resident_kb()? / 1000.0, "MB");
    store.close().await;
    Ok(())
}

async fn run(directory: &Path, row: Duration) -> Result<(), BoxError> {
    let scope = Scope::root("bench");
    let open = || EmbeddedStore::open(directory, EmbeddedOptions::default(), &scope);
    let began = Instant::now();
    let store = Arc::new(open()?);
    print("open, empty", began.elapsed().as_secs_f64() * 1000.0, "ms");
    load(&store, &scope).await?;
    let mut watch = store.watch(WatchRequest::new(KeyRange::all())).await?;
    scope.spawn("watch", async move { while watch.next().await.is_ok() {} });
    bare_sync(directory)?;
    for writers in [1, 16, 64] {
        updates(&store, &scope, writers, row).await?;
    }
    reads(&store).await?;
    let status = store.status();
    print("disk", status.disk_bytes as f64 / 1e6, "MB");
    print("resident", resident_kb()? / 1000.0, "MB");
    store.close().await;
    drop(store);
    // In a process of its own, for its time and its memory alone.
    let opened = std::process::Command::new(std::env::current_exe()?)
        .arg("open")
        .arg(directory)
        .status()?;
    if !opened.success() {
        return Err("the store does not open again".into());
    }
    scope.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn key(n: usize) -> String {
    format!("/registry/pods/default/pod-{n:06}")
}

/// Does not repeat, so that no layer below can be clever.
fn value(seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(VALUE_BYTES + 8);
    while bytes.len() < VALUE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.into()
}

/// What the disk itself takes: the floor of a single writer's latency.
fn bare_sync(directory: &Path) -> Result<(), BoxError> {
    use std::os::unix::fs::FileExt;
    let path = directory.join("bare-sync");
    let file = std::fs::File::create_new(&path)?;
    let rounds = 500;
    file.write_all_at(&vec![0; rounds * 2 * VALUE_BYTES], 0)?;
    file.sync_all()?;
    let mut latencies = Vec::new();
    for n in 0..rounds {
        let began = Instant::now();
        file.write_all_at(&value(n as u64), (n * VALUE_BYTES) as u64)?;
        file.sync_data()?;
        latencies.push(began.elapsed().as_micros() as u32);
    }
    std::fs::remove_file(path)?;
    latencies.sort_unstable();
    print(
        "bare write and fdatasync, p50",
        f64::from(latencies[rounds / 2]),
        "µs",
    );
    Ok(())
}

async fn load(store: &Arc<EmbeddedStore>, scope: &Scope) -> Result<(), BoxError> {
    let began = Instant::now();
    let (done, mut all) = mpsc::channel::<()>(1);
    for writer in 0..64 {
        let (store, done) = (Arc::clone(store), done.clone());
        scope.spawn("load", async move {
            for n in (writer..OBJECTS).step_by(64) {
                if store
                    .txn(Txn::new().expect_absent(key(n)).put(key(n), value(n as u64)))
                    .await
                    .is_err()
                {
                    break;
                }
            }
            drop(done);
        });
    }
    drop(done);
    all.recv().await;
    if store.status().keys != OBJECTS {
        return Err("not everything was loaded".into());
    }
    print(
        "load, 64 writers",
        OBJECTS as f64 / began.elapsed().as_secs_f64(),
        "1/s",
    );
    Ok(())
}

async fn updates(
    store: &Arc<EmbeddedStore>,
    scope: &Scope,
    writers: usize,
    row: Duration,
) -> Result<(), BoxError> {
    let (sender, mut results) = mpsc::channel::<Vec<u32>>(writers);
    let cpu_before = cpu_seconds()?;
    let began = Instant::now();
    for writer in 0..writers {
        let (store, sender) = (Arc::clone(store), sender.clone());
        scope.spawn("writer", async move {
            let latencies = update_own_keys(&store, writer, writers, began + row).await;
            // The receiver waits for all.
            let _ = sender.send(latencies).await;
        });
    }
    drop(sender);
    let mut latencies = Vec::new();
    while let Some(of_one) = results.recv().await {
        latencies.extend(of_one);
    }
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = cpu_seconds()? - cpu_before;
    latencies.sort_unstable();
    let at = |part: f64| f64::from(latencies[((latencies.len() - 1) as f64 * part) as usize]);
    print(
        &format!("update, {writers} writers"),
        latencies.len() as f64 / elapsed,
        "1/s",
    );
    let name = format!("update, {writers} writers, CPU");
    print(&name, cpu * 1e6 / latencies.len() as f64, "µs");
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        print(&format!("update, {writers} writers, {name}"), at(part), "µs");
    }
    Ok(())
}

/// Compare-and-swap in turn over every `writers`-th key. Answers microseconds.
async fn update_own_keys(store: &EmbeddedStore, writer: usize, writers: usize, until: Instant) -> Vec<u32> {
    let mut latencies = Vec::new();
    let mut known: std::collections::HashMap<usize, Revision> = std::collections::HashMap::new();
    for n in (writer..OBJECTS).step_by(writers).cycle() {
        let began = Instant::now();
        if began >= until {
            break;
        }
        let mut txn = Txn::new();
        if let Some(revision) = known.get(&n) {
            txn = txn.expect_revision(key(n), *revision);
        }
        let Ok(response) = store
            .txn(txn.put(key(n), value((n + latencies.len()) as u64)))
            .await
        else {
            break;
        };
        known.insert(n, response.revision);
        latencies.push(began.elapsed().as_micros() as u32);
    }
    latencies
}

async fn reads(store: &Arc<EmbeddedStore>) -> Result<(), BoxError> {
    let rounds = 20_000;
    let began = Instant::now();
    for n in 0..rounds {
        store
            .range(RangeRequest::key(key(n * 7 % OBJECTS).as_bytes()))
            .await?;
    }
    print(
        "get",
        f64::from(rounds as u32) / began.elapsed().as_secs_f64(),
        "1/s",
    );
    let began = Instant::now();
    let found = store
        .range(RangeRequest::prefix(b"/registry/").limit(5000))
        .await?;
    print(
        &format!("range of {}", found.kvs.len()),
        began.elapsed().as_secs_f64() * 1000.0,
        "ms",
    );
    Ok(())
}

/// Processor time of this process so far, writers and reader included. Linux counts it in hundredths of a second.
fn cpu_seconds() -> Result<f64, BoxError> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').ok_or("no name")?.1;
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u32>);
    Ok(f64::from(ticks.sum::<Result<u32, _>>()?) / 100.0)
}

fn resident_kb() -> Result<f64, BoxError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

fn print(name: &str, value: f64, unit: &str) {
    println!("{name:<32} {value:>12.1} {unit}");
}
