//! `cloudeck down`: ends the daemon, every container, and what was made on the machine; works with the daemon dead.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cloudeck_linux::lock::FileLock;

use crate::cli::Down;
use crate::daemon::LEFT_BEHIND;
use crate::settings::Places;

/// How long the daemon may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(15);

pub async fn run(places: &Places, down: &Down) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("ending containers needs root: run `sudo cloudeck down`");
    }
    if !places.data_dir.exists() && !places.run_dir.exists() {
        eprintln!("nothing to do: there is no {}", places.data_dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    let lock = end_daemon(places).await?;
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
    remove(&places.run_dir, &mut problems);
    if down.purge {
        remove(&places.data_dir, &mut problems);
    }
    drop(lock);
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
async fn end_daemon(places: &Places) -> Result<Option<FileLock>> {
    if !places.data_dir.exists() {
        return Ok(None);
    }
    let deadline = Instant::now() + END_LIMIT;
    loop {
        let lock = FileLock::acquire(places.lock(), LEFT_BEHIND)
            .with_context(|| format!("lock {}", places.lock().display()))?;
        if lock.is_some() {
            return Ok(lock);
        }
        // One that has just ended is no holder any more: then the next look takes the lock.
        let Some(holder) = holder(places)? else {
            continue;
        };
        if Instant::now() >= deadline {
            bail!(
                "the daemon (process {}) does not end; see {}",
                holder.pid(),
                places.log().display()
            );
        }
        holder.end(deadline).await?;
    }
}

fn holder(places: &Places) -> Result<Option<Holder>> {
    let pids = cloudeck_linux::lock::holders(places.lock()).context("look for the daemon")?;
    let own = std::process::id() as i32;
    for pid in pids.into_iter().filter(|pid| *pid != own) {
        let Some(pid) = rustix::process::Pid::from_raw(pid) else {
            continue;
        };
        // A descriptor of the process cannot come to mean another one.
        if let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            return Ok(Some(Holder { pid, fd }));
        }
    }
    Ok(None)
}

struct Holder {
    pid: rustix::process::Pid,
    fd: std::os::fd::OwnedFd,
}

impl Holder {
    fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    async fn end(self, deadline: Instant) -> Result<()> {
        rustix::process::pidfd_send_signal(&self.fd, rustix::process::Signal::TERM)
            .context("end the daemon")?;
        // A process's descriptor becomes readable at its end. Past the deadline the caller says what is wrong.
        let ended = move || {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = rustix::event::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut wanted = [rustix::event::PollFd::new(&self.fd, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut wanted, Some(&left))
        };
        tokio::task::spawn_blocking(ended)
            .await
            .context("wait for the daemon")?
            .context("wait for the daemon")?;
        Ok(())
    }
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

fn remove(path: &std::path::Path, problems: &mut Vec<String>) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            problems.push(format!("{}: {error}", path.display()));
        }
        _ => {}
    }
}
