//! What a container's life costs, beside crun and runc: create, start and exit of `true` in an existing network, with
//! overlay, seccomp and control groups.
//!
//! It runs on a machine of its own, so this program starts itself there ([`inside`]) and reads what that found.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cloudeck_runtime::{ContainerConfig, Rootfs, Runtime, RuntimeConfig, SandboxConfig, SandboxId};
use cloudeck_task::Scope;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};

use crate::Bench;
use crate::figure::{Report, percentile};

pub(crate) const FIGURES: &[&str] = &["container"];
/// Makes this program run [`inside`].
pub(crate) const WORD: &str = "containers-inside";

pub(crate) fn measure(bench: &Bench, report: &mut Report) -> Result<()> {
    let machine = cloudeck_e2e::Machine::start();
    let rounds = bench.few(100, 20).to_string();
    let mut command = machine.command(std::env::current_exe()?);
    command
        .args([WORD, &rounds])
        .arg(machine.disk())
        .arg(&bench.program);
    let done = command.stderr(Stdio::inherit()).output()?;
    ensure!(done.status.success(), "ended with {}", done.status);
    let found: Value = serde_json::from_slice(&done.stdout).context("understand what it wrote")?;
    let middle = |who: &str| -> Option<f64> {
        let mut times: Vec<f64> = found[who].as_array()?.iter().filter_map(Value::as_f64).collect();
        Some(percentile(&mut times, 0.5))
    };
    let mut remarks = Vec::new();
    for peer in ["crun", "runc"] {
        remarks.push(match middle(peer) {
            Some(time) => format!("{peer} {time:.1} ms"),
            None => format!("{peer}: {}", found[peer].as_str().unwrap_or("nothing")),
        });
    }
    if let Some(durable) = middle("durable") {
        remarks.push(format!("{durable:.1} ms until its end is on disk"));
    }
    let ours = middle("cloudeck").context("our own runtime failed")?;
    report.set_beside("container", ours, middle("crun"), remarks.join(", "));
    Ok(())
}

/// Measures all on this machine: `containers-inside ROUNDS FOLDER PROGRAM`.
pub(crate) fn inside(words: &[String]) -> Result<()> {
    let [rounds, folder, program] = words else {
        bail!("{WORD} ROUNDS FOLDER PROGRAM");
    };
    let (rounds, folder) = (rounds.parse()?, Path::new(folder));
    let image = folder.join("image");
    std::fs::create_dir_all(image.join("bin"))?;
    std::fs::copy("/bin/busybox", image.join("bin/true")).context("busybox-static is needed")?;
    for name in ["proc", "dev", "sys", "tmp", "etc"] {
        std::fs::create_dir_all(image.join(name))?;
    }
    let mut found = serde_json::Map::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (ended, durable) = runtime.block_on(ours(folder, Path::new(program), rounds))?;
    found.insert("cloudeck".to_owned(), json!(ended));
    found.insert("durable".to_owned(), json!(durable));
    for peer in ["crun", "runc"] {
        let times = peer_times(peer, folder, rounds);
        let value = times.map_or_else(|error| json!(format!("{error:#}")), |times| json!(times));
        found.insert(peer.to_owned(), value);
    }
    println!("{}", Value::Object(found));
    Ok(())
}

/// Milliseconds until the program has ended, and until that is durable.
async fn ours(folder: &Path, program: &Path, rounds: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut config = RuntimeConfig::new("bench-runtime", folder.join("state"));
    program.clone_into(&mut config.shim_exe);
    let scope = Scope::root("bench");
    let runtime = Runtime::open(config.clone(), &scope).await?;
    let sandbox = SandboxConfig {
        cgroup_parent: "pods/one".to_owned(),
        ..SandboxConfig::default()
    };
    let sandbox = runtime.run_pod_sandbox(sandbox).await?.id;
    let (mut ended, mut durable) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (end, written) = one_life(&runtime, &sandbox, folder, round).await?;
        ended.push(end);
        durable.push(written);
    }
    runtime.remove_pod_sandbox(&sandbox).await?;
    drop(runtime);
    scope.shutdown(Duration::from_secs(5)).await;
    Runtime::purge(&config, true).await;
    Ok((ended, durable))
}

async fn one_life(runtime: &Runtime, sandbox: &SandboxId, folder: &Path, round: usize) -> Result<(f64, f64)> {
    let config = ContainerConfig {
        argv: vec!["/bin/true".to_owned()],
        rootfs: Rootfs {
            lowers: vec![folder.join("image")],
            upper: folder.join(format!("c{round}/upper")),
            work: folder.join(format!("c{round}/work")),
            readonly: false,
        },
        log_path: Some(folder.join(format!("c{round}/log"))),
        ..ContainerConfig::default()
    };
    let begin = Instant::now();
    let id = runtime.create_container(sandbox, config).await?;
    let process = cloudeck_linux::pidfd::open(runtime.container_status(&id)?.pid)?;
    runtime.start_container(&id).await?;
    let end = tokio::task::spawn_blocking(move || {
        cloudeck_linux::pidfd::wait_end(process, Duration::from_secs(10)).map(|_| Instant::now())
    });
    runtime.wait_container(&id).await?;
    let durable = begin.elapsed();
    let ended = end.await?? - begin;
    runtime.remove_container(&id).await?;
    Ok((ended.as_secs_f64() * 1e3, durable.as_secs_f64() * 1e3))
}

/// Milliseconds of `PEER run`, mounting and unmounting its root file system included.
fn peer_times(peer: &str, folder: &Path, rounds: usize) -> Result<Vec<f64>> {
    let bundle = folder.join(peer);
    let root = bundle.join("rootfs");
    std::fs::create_dir_all(&root)?;
    std::fs::write(bundle.join("config.json"), bundle_config()?.to_string())?;
    let mut times = Vec::new();
    for round in 0..rounds {
        let own = bundle.join(round.to_string());
        let begin = Instant::now();
        std::fs::create_dir_all(own.join("upper"))?;
        std::fs::create_dir_all(own.join("work"))?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            folder.join("image").display(),
            own.join("upper").display(),
            own.join("work").display()
        );
        let options = std::ffi::CString::new(options)?;
        rustix::mount::mount(
            "overlay",
            &root,
            "overlay",
            MountFlags::empty(),
            options.as_c_str(),
        )?;
        let mut command = Command::new(peer);
        command
            .arg("--root")
            .arg(bundle.join("state"))
            .arg("run")
            .arg("--bundle")
            .arg(&bundle);
        let done = command
            .arg(format!("bench-{round}"))
            .stdin(Stdio::null())
            .output();
        rustix::mount::unmount(&root, UnmountFlags::empty())?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        let done = done.with_context(|| format!("run {peer}"))?;
        ensure!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(times)
}

/// What Docker gives a container, by and large.
fn bundle_config() -> Result<Value> {
    let mount = |to: &str, kind: &str, options: &[&str]| json!({ "destination": to, "type": kind, "source": kind, "options": options });
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_NET_BIND_SERVICE",
    ];
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": false },
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
        ],
        "linux": {
            "cgroupsPath": "/bench-peer",
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{ "names": allowed_calls()?, "action": "SCMP_ACT_ALLOW" }]
            }
        }
    }))
}

/// The kernel's system calls without those that containers are usually refused. A C compiler brings the list.
fn allowed_calls() -> Result<Vec<String>> {
    const REFUSED: &str = "acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module \
        fsconfig fsmount fsopen fspick get_kernel_syms init_module ioperm iopl kexec_file_load kexec_load keyctl \
        lookup_dcookie mount mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree \
        perf_event_open pivot_root query_module quotactl reboot request_key setdomainname sethostname setns \
        settimeofday swapoff swapon sysfs syslog umount2 unshare uselib userfaultfd ustat vhangup";
    let header = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
    let text = std::fs::read_to_string(header).with_context(|| format!("read {header}"))?;
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("#define __NR_")?.split(' ').next());
    let refused: Vec<&str> = REFUSED.split_ascii_whitespace().collect();
    Ok(names
        .filter(|name| !refused.contains(name))
        .map(str::to_owned)
        .collect())
}
