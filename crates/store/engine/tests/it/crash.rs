//! A real process, really killed: what it acknowledged is there afterwards.
//!
//! The child is this test binary again, running the ignored test below; it is told the directory on standard input
//! and tells what was acknowledged on standard output.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cloudeck_engine::sim::Dice;
use cloudeck_engine::{
    EmbeddedOptions, EmbeddedStore, HistoryPolicy, KeyRange, RangeRequest, Store, Txn, WatchRequest,
};
use cloudeck_task::Scope;

const WRITERS: usize = 16;
const ROUNDS: u64 = 6;

fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        history: HistoryPolicy {
            max_revisions: 500,
            ..HistoryPolicy::default()
        },
        // Rolls and compacts many times in a round.
        segment_bytes: 256 << 10,
        ..EmbeddedOptions::default()
    }
}

/// Per writer, the last number it was told is durable, and the highest revision of all.
#[derive(Default)]
struct Acknowledged {
    numbers: HashMap<usize, u64>,
    revision: u64,
}

impl Acknowledged {
    /// "ack WRITER NUMBER REVISION"; a line cut short by the kill does not count.
    fn take(&mut self, line: &str) {
        let Some(fields) = line
            .strip_prefix("ack ")
            .and_then(|rest| rest.strip_suffix(" ok"))
        else {
            return;
        };
        let numbers: Vec<u64> = fields.split(' ').map(|field| field.parse().unwrap()).collect();
        self.numbers.insert(numbers[0] as usize, numbers[1]);
        self.revision = self.revision.max(numbers[2]);
    }
}

#[test]
fn sigkill_at_any_moment_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    let mut dice = Dice::new(42);
    for round in 0..ROUNDS {
        let lines = 300 + dice.roll(3000);
        let before = acknowledged.revision;
        run_child_and_kill(directory.path(), lines, &mut acknowledged);
        assert!(acknowledged.revision > before, "round {round} wrote something");
        check(directory.path(), &acknowledged);
    }
}

fn run_child_and_kill(directory: &Path, lines: u64, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "crash::the_child_of_the_sigkill_test",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", directory.display()).unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in output.by_ref().take(lines as usize) {
        acknowledged.take(&line.unwrap());
    }
    child.kill().unwrap();
    // Told before the kill, still in the pipe.
    for line in output {
        acknowledged.take(&line.unwrap_or_default());
    }
    child.wait().unwrap();
}

/// Every writer's keys hold a whole value that is not older than acknowledged.
fn check(directory: &Path, acknowledged: &Acknowledged) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let scope = Scope::root("crash");
        let store = EmbeddedStore::open(directory, options(), &scope).unwrap();
        assert!(store.revision().get() >= acknowledged.revision);
        for (writer, number) in &acknowledged.numbers {
            let pair = store
                .range(RangeRequest::prefix(format!("w{writer:02}/").as_bytes()))
                .await
                .unwrap()
                .kvs;
            assert_eq!(pair.len(), 2, "both keys of a transaction are there");
            assert_eq!(pair[0].value, pair[1].value, "both are of the same transaction");
            let text = String::from_utf8(pair[0].value.to_vec()).unwrap();
            let (found, rest) = text.split_once(' ').unwrap();
            assert!(
                found.parse::<u64>().unwrap() >= *number,
                "writer {writer}: {found} < {number}"
            );
            assert!(rest.bytes().all(|byte| byte == b'x') && rest.len() == 700);
        }
        check_history(&store).await;
        store.close().await;
        scope.request_shutdown();
    });
}

/// No revision is missing or half there.
async fn check_history(store: &EmbeddedStore) {
    let horizon = store.status().history_horizon;
    let mut watch = store
        .watch(WatchRequest::new(KeyRange::all()).from(horizon.next()))
        .await
        .unwrap();
    for at in horizon.next().get()..=store.revision().get() {
        let batch = watch.next().await.unwrap();
        assert_eq!((batch.revision.get(), batch.events.len()), (at, 2));
    }
}

#[test]
#[ignore = "the child of the test above; alone it finds no directory and does nothing"]
fn the_child_of_the_sigkill_test() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let directory = line.trim();
    if directory.is_empty() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(write_until_killed(Path::new(directory)));
}

async fn write_until_killed(directory: &Path) {
    let scope = Scope::root("child");
    let store = Arc::new(EmbeddedStore::open(directory, options(), &scope).unwrap());
    let (alive, mut all_ended) = tokio::sync::mpsc::channel::<()>(1);
    for writer in 0..WRITERS {
        let (store, alive) = (Arc::clone(&store), alive.clone());
        scope.spawn("writer", async move {
            write(writer, store).await;
            drop(alive);
        });
    }
    drop(alive);
    // Only when nobody reads any more: the parent was killed itself.
    all_ended.recv().await;
}

async fn write(writer: usize, store: Arc<EmbeddedStore>) {
    let start = store.revision().get() * 1000;
    for number in start.. {
        let value = format!("{number} {}", "x".repeat(700));
        let txn = Txn::new()
            .put(format!("w{writer:02}/a"), value.clone())
            .put(format!("w{writer:02}/b"), value);
        let revision = store.txn(txn).await.unwrap().revision;
        // One write, so that lines of several writers do not mix; `print` would be captured.
        let line = format!("ack {writer} {number} {revision} ok\n");
        let written = std::io::stdout().lock().write_all(line.as_bytes());
        if written.is_err() {
            return;
        }
    }
}
