//! What the processes of a machine use, from /proc.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloudeck_e2e::Machine;

/// Our processes on a machine: neither its init nor the applications of pods. `daemon` is one of them.
///
/// # Errors
/// When none is found: nothing is no figure.
pub(crate) fn ours(machine: &Machine, daemon: u32) -> Result<Vec<u32>> {
    // The daemon is where it was started from; what it starts has a group of the machine, or at least sees its mounts.
    let group = format!("/{}", machine.name());
    let mounts = fs::read_link(format!("/proc/{daemon}/ns/mnt")).context("the daemon is gone")?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list the processes")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // One that has ended meanwhile is none.
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let sees = fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|own| own == mounts);
        if (sees || groups.contains(&group)) && is_ours(pid) {
            found.push(pid);
        }
    }
    ensure!(
        found.contains(&daemon),
        "the daemon {daemon} is not among {found:?}"
    );
    Ok(found)
}

fn is_ours(pid: u32) -> bool {
    let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else {
        return false;
    };
    let name = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    // The shell and the cat that are the machine, what enters it, and the program of the test image.
    !matches!(
        name.as_str(),
        "dash" | "bash" | "sh" | "cat" | "nsenter" | "unshare" | "busybox"
    )
}

/// Resident memory of processes together, in MB.
pub(crate) fn resident_mb(pids: &[u32]) -> f64 {
    pids.iter()
        .map(|pid| kilobytes(&format!("/proc/{pid}/status"), "VmRSS:"))
        .sum::<f64>()
        / 1024.0
}

/// Memory that is the processes' own, in MB.
pub(crate) fn private_mb(pids: &[u32]) -> f64 {
    pids.iter()
        .map(|pid| kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Anonymous:"))
        .sum::<f64>()
        / 1024.0
}

fn kilobytes(path: &str, field: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(field));
    value
        .and_then(|value| value.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or(0.0)
}

/// The share of one core, in per cent, that the processes use while nothing is asked of them.
pub(crate) fn cpu_percent(pids: &[u32], over: Duration) -> Result<f64> {
    let before = processor_time(pids);
    let begin = Instant::now();
    std::thread::sleep(over);
    let used = processor_time(pids).saturating_sub(before);
    ensure!(before > 0, "no processor time is known of {pids:?}");
    Ok(used as f64 / begin.elapsed().as_nanos() as f64 * 100.0)
}

/// Nanoseconds on a processor of all threads.
pub(crate) fn processor_time(pids: &[u32]) -> u64 {
    let of_thread = |path: &Path| -> u64 {
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ')
            .next()
            .and_then(|field| field.parse().ok())
            .unwrap_or(0)
    };
    pids.iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flat_map(Iterator::flatten)
        .map(|thread| of_thread(&thread.path()))
        .sum()
}
