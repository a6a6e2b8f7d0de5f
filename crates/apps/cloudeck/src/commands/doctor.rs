//! `cloudeck doctor`: what this machine has, what it lacks, and what to do about it. Changes nothing, unless it is told
//! to repair the datastore.

mod store;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cloudeck_machinery::{Value, value};
use cloudeck_net::Ipv4Cidr;
use cloudeck_network::doctor::{Finding, Severity, diagnose, diagnose_ranges};

use super::output::{print_table, print_tree};
use crate::claim;
use crate::cli::{Doctor, Format};
use crate::settings::{Places, Settings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Warning,
    Bad,
}

struct Check {
    what: &'static str,
    verdict: Verdict,
    found: String,
    remedy: String,
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            verdict: Verdict::Good,
            found: found.into(),
            remedy: String::new(),
        }
    }

    fn not(
        verdict: Verdict,
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            what,
            verdict,
            found: found.into(),
            remedy: remedy.into(),
        }
    }
}

pub async fn run(places: &Places, options: &Doctor) -> Result<ExitCode> {
    let datastore = places.data_dir.join("store");
    if options.repair {
        store::repair(&datastore).await?;
    }
    let mut checks = vec![
        root(),
        kernel(),
        cgroups(),
        overlay(),
        capabilities(),
        disk(places),
    ];
    checks.extend(ports(places));
    checks.extend(store::check(&datastore).await);
    if rustix::process::geteuid().is_root() {
        checks.extend(network(places));
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Bad);
    report(&checks, options.output.output);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn root() -> Check {
    if rustix::process::geteuid().is_root() {
        return Check::good("user", "root");
    }
    Check::not(
        Verdict::Bad,
        "user",
        "not root",
        "run as root: containers need namespaces, mounts and cgroups",
    )
}

fn kernel() -> Check {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // pidfd (5.3), openat2 (5.6), close_range with CLOEXEC (5.11), mount_setattr (5.12).
    if version >= (5, 12) {
        return Check::good("kernel", release);
    }
    Check::not(Verdict::Bad, "kernel", release, "use Linux 5.12 or newer")
}

fn cgroups() -> Check {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if v2 {
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        let missing: Vec<&str> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|c| !controllers.split(' ').any(|k| k.trim() == *c))
            .collect();
        if missing.is_empty() {
            return Check::good("cgroups", "version 2");
        }
        let found = format!("version 2 without {}", missing.join(", "));
        return Check::not(
            Verdict::Bad,
            "cgroups",
            found,
            "enable the controllers on the kernel command line (cgroup_enable=memory)",
        );
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let has = |name: &str| {
        mounts.lines().any(|line| {
            line.contains(" - cgroup ")
                && line
                    .split(',')
                    .any(|option| option.trim() == name || option.ends_with(&format!(" {name}")))
        })
    };
    let missing: Vec<&str> = ["cpu", "memory", "pids", "devices", "freezer"]
        .into_iter()
        .filter(|c| !has(c))
        .collect();
    if missing.is_empty() {
        return Check::good("cgroups", "version 1");
    }
    let found = format!("version 1 without {}", missing.join(", "));
    Check::not(
        Verdict::Bad,
        "cgroups",
        found,
        "mount the missing controllers below /sys/fs/cgroup",
    )
}

fn overlay() -> Check {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known
        .lines()
        .any(|line| line.split_whitespace().last() == Some("overlay"))
    {
        return Check::good("overlayfs", "available");
    }
    Check::not(
        Verdict::Bad,
        "overlayfs",
        "not available",
        "load it: modprobe overlay",
    )
}

fn capabilities() -> Check {
    const SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .map(str::trim)
        .unwrap_or_default();
    let mask = u64::from_str_radix(effective, 16).unwrap_or(0);
    if mask & (1 << SYS_RESOURCE) != 0 {
        return Check::good("capabilities", "all that is needed");
    }
    let remedy = "pods run, but their OOM scores cannot be lowered nor limits raised; grant CAP_SYS_RESOURCE";
    Check::not(Verdict::Warning, "capabilities", "no CAP_SYS_RESOURCE", remedy)
}

fn disk(places: &Places) -> Check {
    const LITTLE: u64 = 2 << 30;
    let mut dir = places.data_dir.as_path();
    while !dir.exists() {
        dir = dir.parent().unwrap_or(Path::new("/"));
    }
    match rustix::fs::statvfs(dir) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let found = format!(
                "{} GB free for {}",
                free / 1_000_000_000,
                places.data_dir.display()
            );
            if free >= LITTLE {
                Check::good("disk", found)
            } else {
                Check::not(Verdict::Warning, "disk", found, "free some space: images need it")
            }
        }
        Err(error) => Check::not(
            Verdict::Bad,
            "disk",
            format!("{}: {error}", dir.display()),
            "choose another --data-dir",
        ),
    }
}

fn ports(places: &Places) -> Vec<Check> {
    let settings = Settings::load(places).ok().flatten();
    if claim::look(places).is_ok_and(|holder| holder.is_some()) {
        return vec![Check::good("ports", "in use by this cluster")];
    }
    let wanted = settings.map_or([6443, 10250], |s| [s.port, s.node_port]);
    let busy: Vec<String> = wanted
        .into_iter()
        .filter(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_err())
        .map(|port| port.to_string())
        .collect();
    if busy.is_empty() {
        let list = wanted.map(|port| port.to_string()).join(" and ");
        return vec![Check::good("ports", format!("{list} are free"))];
    }
    let found = format!("in use: {}", busy.join(", "));
    vec![Check::not(
        Verdict::Bad,
        "ports",
        found,
        "end what uses them, or choose others: --port, --node-port",
    )]
}

fn network(places: &Places) -> Vec<Check> {
    let mut findings: Vec<Finding> = diagnose(None);
    findings.extend(diagnose_ranges(None, &ranges(places)));
    if findings.is_empty() {
        return vec![Check::good("network", "pods and Services can be connected")];
    }
    findings
        .into_iter()
        .map(|finding| {
            let verdict = if finding.severity == Severity::Error {
                Verdict::Bad
            } else {
                Verdict::Warning
            };
            Check::not(verdict, "network", finding.what, finding.remedy)
        })
        .collect()
}

/// The cluster's ranges, or those of a new one.
fn ranges(places: &Places) -> Vec<Ipv4Cidr> {
    let settings = Settings::load(places).ok().flatten();
    let settings = settings.or_else(|| Settings::fresh().ok());
    settings.map_or_else(Vec::new, |settings| {
        vec![settings.cluster_range(), settings.service_range()]
    })
}

fn report(checks: &[Check], format: Format) {
    let word = |verdict| match verdict {
        Verdict::Good => "ok",
        Verdict::Warning => "warning",
        Verdict::Bad => "error",
    };
    if format == Format::Table {
        let row = |check: &Check| {
            vec![
                word(check.verdict).to_owned(),
                check.what.to_owned(),
                check.found.clone(),
                check.remedy.clone(),
            ]
        };
        return print_table(
            &["", "CHECK", "FOUND", "REMEDY"],
            &checks.iter().map(row).collect::<Vec<_>>(),
        );
    }
    let render = |check: &Check| {
        value!({
            "check": (check.what), "verdict": (word(check.verdict)), "found": (check.found.as_str()),
            "remedy": (check.remedy.as_str())
        })
    };
    print_tree(&Value::Array(checks.iter().map(render).collect()), format);
}
