//! Many seeds, each in a process of its own: what a simulation takes over it never gives back.

use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// Runs `count` seeds from `first` on, as many at once as there are processors, and prints those that fail.
///
/// # Errors
/// When this program cannot be started again.
pub(crate) fn run(first: u64, count: u64) -> Result<ExitCode> {
    let program = std::env::current_exe().context("finding this program")?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= first + count {
                return Ok(());
            }
            let output = Command::new(&program).arg(seed.to_string()).output();
            let output = output.context("running a seed")?;
            if !output.status.success() {
                tell(&output);
                failed.lock().expect("no holder panics").push(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|it| it.join().expect("no worker panics"));
        ended.collect::<Result<Vec<()>>>()
    })?;
    let mut failed = failed.into_inner().expect("no holder panicked");
    failed.sort_unstable();
    println!("{count} seeds from {first}, {} failed: {failed:?}", failed.len());
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tell(output: &Output) {
    print!("{}", String::from_utf8_lossy(&output.stdout));
    // A panic, or whatever ended the process, stands there.
    let errors = String::from_utf8_lossy(&output.stderr);
    for line in errors.lines().take(20) {
        println!("  {line}");
    }
}
