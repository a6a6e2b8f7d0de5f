//! `cloudeck-bench PROGRAM [--quick] [GROUP…]`: measures the product and prints a Markdown table.
//!
//! Every group has machines of its own (namespaces, as the end-to-end tests have them), purged at its end. Figures are
//! recorded, never asserted: one that cannot be measured says why, and the others go on. The generator shares the cores
//! with what it measures; one thread does.
//!
//! Absences: nothing of the server is used, only its sockets; the container runtime alone is called directly, as its
//! peers are run directly. Start reading at [`figure`], then [`requests`].

mod api;
mod containers;
mod figure;
mod node;
mod pods;
mod processes;
mod requests;
mod services;
mod start;
mod watchers;
mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use figure::Report;

/// What is to be measured, and how thoroughly.
pub(crate) struct Bench {
    program: PathBuf,
    quick: bool,
}

impl Bench {
    /// How often, or how many seconds: less when only a glance is wanted.
    pub(crate) fn few(&self, usually: usize, quick: usize) -> usize {
        if self.quick { quick } else { usually }
    }
}

type Measure = fn(&Bench, &mut Report) -> Result<()>;

/// Name, figures, how they are measured.
const GROUPS: &[(&str, &[&str], Measure)] = &[
    ("start", start::FIGURES, start::measure),
    ("idle", pods::IDLE, pods::idle),
    ("pods", pods::FIGURES, pods::measure),
    ("services", services::FIGURES, services::measure),
    ("containers", containers::FIGURES, containers::measure),
    ("load", requests::FIGURES, requests::measure),
    ("binary", &["binary"], binary),
];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == containers::WORD) {
        return containers::inside(&words[1..]);
    }
    let (flags, words): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with("--"));
    if let Some(flag) = flags.iter().find(|flag| *flag != "--quick") {
        bail!("unknown flag {flag}");
    }
    let (program, groups) = words
        .split_first()
        .context("usage: cloudeck-bench PROGRAM [--quick] [GROUP…]")?;
    let known = |group: &String| GROUPS.iter().any(|(name, ..)| name == group);
    if let Some(group) = groups.iter().find(|group| !known(group)) {
        bail!("unknown group {group}");
    }
    let bench = Bench {
        program: std::fs::canonicalize(program).with_context(|| format!("find {program}"))?,
        quick: !flags.is_empty(),
    };
    let mut report = Report::default();
    for (name, figures, measure) in GROUPS {
        if groups.is_empty() || groups.iter().any(|group| group == name) {
            eprintln!("{name}");
            run(*measure, figures, &bench, &mut report);
        }
    }
    println!("{}", report.table());
    Ok(())
}

/// Measures a group; what it does not bring has failed.
fn run(measure: Measure, figures: &[&'static str], bench: &Bench, report: &mut Report) {
    // The machines of the end-to-end tests panic when they fail, as tests do.
    let done = catch_unwind(AssertUnwindSafe(|| measure(bench, report)));
    let reason = match done {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => panic
            .downcast_ref::<String>()
            .map_or("it panicked".to_owned(), Clone::clone),
    };
    eprintln!("  failed: {reason}");
    report.fail(figures, &reason);
}

fn binary(bench: &Bench, report: &mut Report) -> Result<()> {
    report.set("binary", std::fs::metadata(&bench.program)?.len() as f64 / 1e6);
    Ok(())
}
