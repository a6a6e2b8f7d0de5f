//! Other runtimes that can be had, in the same run: create + start + exit of `true` in an existing network namespace, with
//! overlay, seccomp and cgroup.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cloudeck_e2e::Machine;
use serde_json::{Value, json};

use crate::table::{Table, ms, quantile};

const ROUNDS: usize = 20;

/// Adds the row.
pub(crate) fn containers(table: &mut Table) {
    let peers = ["crun", "runc"].map(|name| match measure(name) {
        Ok(median) => format!("{name} {:.1} ms", ms(median)),
        Err(error) => format!("{name} not measured ({error:#})"),
    });
    table.add_alone(
        "container create + start + exit, p50",
        &peers.join(", "),
        &ours(),
        "3.6 ms",
    );
}

/// What the runtime's own example prints.
fn ours() -> String {
    let Some(example) = std::env::var_os("CLOUDECK_RUNTIME_BENCH") else {
        return "not measured: run by `cargo xtask bench`".to_owned();
    };
    let done = Command::new(example).output();
    let text = done
        .map(|done| String::from_utf8_lossy(&done.stdout).into_owned())
        .unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.contains("create + start + end"))
        .map(str::to_owned);
    line.unwrap_or_else(|| format!("not measured: {}", text.trim()))
}

fn measure(runtime: &str) -> Result<Duration> {
    let machine = Machine::start();
    let bundle = machine.disk().join("bundle");
    std::fs::create_dir_all(bundle.join("lower/bin"))?;
    std::fs::copy("/bin/busybox", bundle.join("lower/bin/true"))?;
    for folder in ["upper", "work", "rootfs", "lower/proc", "lower/dev"] {
        std::fs::create_dir_all(bundle.join(folder))?;
    }
    let text = |path: &str| bundle.join(path).display().to_string();
    let (lower, upper, work, root) = (text("lower"), text("upper"), text("work"), text("rootfs"));
    machine.shell(&format!(
        "mount -t overlay -o lowerdir={lower},upperdir={upper},workdir={work} overlay {root}"
    ));
    std::fs::write(
        bundle.join("config.json"),
        configuration(Path::new(&root)).to_string(),
    )?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let mut command = machine.command(runtime);
        command
            .args(["run", "--bundle"])
            .arg(&bundle)
            .arg(format!("bench-{round}"));
        let begun = Instant::now();
        let done = command.output().with_context(|| format!("run {runtime}"))?;
        times.push(begun.elapsed());
        ensure!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    // The way into the machine is not the runtime's.
    let mut entering = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        machine.command("true").status()?;
        entering.push(begun.elapsed());
    }
    Ok(quantile(&mut times, 0.5).saturating_sub(quantile(&mut entering, 0.5)))
}

fn configuration(root: &Path) -> Value {
    let kinds = ["pid", "ipc", "uts", "mount"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "env": ["PATH=/bin"], "cwd": "/", "noNewPrivileges": true},
        "root": {"path": root},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {
            "namespaces": kinds,
            "cgroupsPath": "/bench",
            "resources": {"pids": {"limit": 100}},
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["mount", "reboot", "swapon", "keyctl", "bpf"], "action": "SCMP_ACT_ERRNO"}]},
        },
    })
}
