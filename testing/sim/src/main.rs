//! A cluster in one thread, under a clock that does not wait and faults that follow from a seed.
//!
//! The real server, controllers and scheduler run with simulated machines on a paused clock. Everything that can differ
//! from run to run follows from the seed, so a failing seed fails again: `cargo run -p cloudeck-sim -- 42`, with `--trace`
//! for every step. `--count 500` tries many.
//!
//! Absences: no sockets, no disk, no waiting, no container; no knowledge of the components' insides, only of the API.
//! Start reading at [`scenario`], then [`cluster`], [`network`] and [`laws`].

mod at_rest;
mod book;
mod chaos;
mod cluster;
mod dice;
mod engine;
mod host;
mod kinds;
mod laws;
mod many;
mod network;
mod node;
mod reader;
mod scenario;
mod storage;
mod trace;
mod user;
mod watching;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::time::Instant;

use trace::Trace;

/// Simulates a cluster under a seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// What everything follows from.
    seed: u64,
    /// Try so many seeds from this one on, each in a process of its own, and tell which fail.
    #[arg(long, conflicts_with = "trace")]
    count: Option<u64>,
    /// Print every step to standard error.
    #[arg(long)]
    trace: bool,
    /// Print every value of the keys that begin so: `apps/deployments/default/web`.
    #[arg(long)]
    show: Option<String>,
    /// Print the components' logs to standard error, from this level on.
    #[arg(long)]
    log: Option<tracing::Level>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(level) = arguments.log {
        let logs = tracing_subscriber::fmt().with_writer(std::io::stderr);
        logs.with_max_level(level).init();
    }
    if let Some(count) = arguments.count {
        return many::run(arguments.seed, count);
    }
    let trace = Trace::new(arguments.trace, arguments.show);
    watch_for_panics(&trace);
    host::take_over(arguments.seed);
    let started = std::sync::OnceLock::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_unpark(move || {
            let now = Instant::now();
            host::set_elapsed(now.duration_since(*started.get_or_init(|| now)));
        })
        .build()
        .context("making a runtime")?;
    runtime.block_on(scenario::run(arguments.seed, &trace));
    let (hash, lines) = (trace.hash(), trace.lines());
    println!("seed {} hash {hash:016x} lines {lines}", arguments.seed);
    for violation in trace.violations() {
        println!("{violation}");
    }
    Ok(if trace.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A task that panics ends alone, so somebody has to notice.
fn watch_for_panics(trace: &Trace) {
    let (trace, before) = (trace.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        trace.violation(format!("panic: {panic}"));
        before(panic);
    }));
}
