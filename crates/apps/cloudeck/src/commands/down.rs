//! `cloudeck down`: ends the daemon, every container, and what was made on the machine; works with the daemon dead.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::claim::{self, Claim, Doing, END_LIMIT};
use crate::cli::Down;
use crate::settings::Places;

pub async fn run(places: &Places, down: &Down) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("ending containers needs root: run `sudo cloudeck down`");
    }
    if !places.data_dir.exists() && !places.run_dir.exists() {
        eprintln!("nothing to do: there is no {}", places.data_dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    let claim = end_daemon(places).await?;
    let mut problems = Vec::new();
    let report = cloudeck_runtime::Runtime::purge(&places.runtime(), down.purge).await;
    problems.extend(report.left);
    if let Err(error) = cloudeck_proxy::purge(&places.instance, None) {
        problems.push(format!("service rules: {:#}", anyhow::Error::from(error)));
    }
    if let Err(error) = cloudeck_network::purge(&places.instance, places.network(), None).await {
        problems.push(format!("pod network: {:#}", anyhow::Error::from(error)));
    }
    if let Err(error) = unmount_below(places) {
        problems.push(format!("mounts: {error:#}"));
    }
    note(
        std::fs::remove_dir_all(&places.run_dir),
        &places.run_dir,
        &mut problems,
    );
    if down.purge {
        remove_data(places, &mut problems);
    }
    drop(claim);
    if problems.is_empty() {
        eprintln!(
            "{}",
            if down.purge {
                "stopped; nothing is left"
            } else {
                "stopped; the data is kept"
            }
        );
        return Ok(ExitCode::SUCCESS);
    }
    bail!(
        "stopped, but some things could not be removed:\n  {}",
        problems.join("\n  ")
    )
}

/// Ends the daemon that holds the data directory and takes its place. The holder is asked of the kernel, not of a file.
async fn end_daemon(places: &Places) -> Result<Option<Claim>> {
    let places = places.clone();
    let end = move || {
        let deadline = Instant::now() + END_LIMIT;
        while places.data_dir.exists() {
            if let Some(claim) = claim::take(&places, Doing::Removing)? {
                return Ok(Some(claim));
            }
            // One that has just ended is no holder any more: then the next look takes the lock.
            let Some(holder) = claim::look(&places)? else {
                continue;
            };
            // Another `down` is left to finish what it does.
            if holder.doing != Doing::Removing {
                holder.terminate()?;
            }
            if !holder.ended(deadline.saturating_duration_since(Instant::now()))? {
                bail!(
                    "process {}, which is {}, does not come to an end; see {}",
                    holder.pid,
                    holder.doing.word(),
                    places.log().display()
                );
            }
        }
        Ok(None)
    };
    let ended = tokio::task::spawn_blocking(end).await;
    ended.context("wait for the daemon")?
}

/// Memory volumes that a dead daemon left mounted.
fn unmount_below(places: &Places) -> Result<()> {
    for dir in [&places.data_dir, &places.run_dir] {
        let failed = cloudeck_linux::mount::detach_below(dir).context("list the mounts")?;
        if let Some((path, error)) = failed.into_iter().next() {
            bail!("{}: {error}", path.display());
        }
    }
    Ok(())
}

/// Removes the data, the lock at the very end: who comes earlier finds it taken, and who comes later a new one.
fn remove_data(places: &Places, problems: &mut Vec<String>) {
    let lock = places.lock();
    let entries = match std::fs::read_dir(&places.data_dir) {
        Ok(entries) => entries,
        Err(error) => return note(Err(error), &places.data_dir, problems),
    };
    for entry in entries.flatten().filter(|entry| entry.path() != lock) {
        let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            std::fs::remove_dir_all(entry.path())
        } else {
            std::fs::remove_file(entry.path())
        };
        note(removed, &entry.path(), problems);
    }
    note(std::fs::remove_file(&lock), &lock, problems);
    match std::fs::remove_dir(&places.data_dir) {
        // A new cluster has begun here.
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && lock.exists() => {}
        removed => note(removed, &places.data_dir, problems),
    }
}

fn note(removed: std::io::Result<()>, path: &Path, problems: &mut Vec<String>) {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            problems.push(format!("{}: {error}", path.display()));
        }
        _ => {}
    }
}
