//! `cloudeck up`: in the foreground, or in the background with a report on how the start comes along.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::claim::{self, Asked, Doing};
use crate::cli::Up;
use crate::daemon::{self, Progress, READY, TAKEN};
use crate::settings::Places;

pub fn run(places: &Places, up: &Up) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("containers need root: run `sudo cloudeck up`");
    }
    if up.detach {
        return detach(places, up);
    }
    let mut progress: Box<dyn Progress> = match up.report_fd {
        Some(fd) => Box::new(Reporting::on(fd)?),
        None => Box::new(Talking {
            places: places.clone(),
        }),
    };
    match claim::claim(places)? {
        Asked::Claimed(claim) => daemon::run(places, up, claim, &mut *progress)?,
        Asked::Taken(doing) if up.report_fd.is_none() => tell_taken(places, doing),
        Asked::Taken(_) => progress.step(TAKEN),
    }
    Ok(ExitCode::SUCCESS)
}

fn tell_taken(places: &Places, doing: Doing) {
    let what = if doing == Doing::Starting {
        "is being started"
    } else {
        "runs"
    };
    eprintln!(
        "cloudeck {what} already on {}; `cloudeck status` says more",
        places.data_dir.display()
    );
}

/// How to go on, once the cluster runs.
fn tell_how_to_go_on(places: &Places, foreground: bool) {
    let instance = if places.instance == "default" {
        String::new()
    } else {
        format!(" --instance {}", places.instance)
    };
    eprintln!();
    eprintln!("The cluster is ready. To use it:");
    eprintln!("  export KUBECONFIG={}", places.kubeconfig().display());
    eprintln!("  kubectl get nodes            (or without kubectl: cloudeck{instance} get nodes)");
    if foreground {
        eprintln!("Ctrl-C stops this process; containers go on. `cloudeck{instance} down` ends them too.");
    } else {
        eprintln!(
            "`cloudeck{instance} down` stops it. The log is {}.",
            places.log().display()
        );
    }
}

struct Talking {
    places: Places,
}

impl Progress for Talking {
    fn step(&mut self, text: &str) {
        if text == READY {
            tell_how_to_go_on(&self.places, true);
        } else {
            eprintln!("• {text}");
        }
    }
}

/// Tells the process that started us, over a pipe.
struct Reporting {
    pipe: Option<std::fs::File>,
}

impl Reporting {
    fn on(fd: i32) -> Result<Self> {
        // The descriptor was made for us by `detach` below; /proc gives a safe way to own it.
        let path = format!("/proc/self/fd/{fd}");
        let pipe = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .with_context(|| format!("open the report descriptor {fd}"))?;
        Ok(Self { pipe: Some(pipe) })
    }
}

impl Progress for Reporting {
    fn step(&mut self, text: &str) {
        if let Some(pipe) = &mut self.pipe
            && writeln!(pipe, "{text}").is_err()
        {
            // Nobody listens any more: the start goes on all the same.
            self.pipe = None;
        }
        if text == READY {
            self.pipe = None;
        }
    }
}

fn detach(places: &Places, up: &Up) -> Result<ExitCode> {
    match claim::claim(places)? {
        Asked::Taken(doing) => {
            tell_taken(places, doing);
            return Ok(ExitCode::SUCCESS);
        }
        // Let go of: the background process claims for itself, and tells if another was faster.
        Asked::Claimed(claim) => drop(claim),
    }
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(places.log());
    let log = log.with_context(|| format!("open {}", places.log().display()))?;
    let (read, write) = rustix::pipe::pipe().context("make a pipe")?;
    rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::CLOEXEC).context("make a pipe")?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("cloudeck")
        .args(arguments(places, up))
        .arg("--report-fd")
        .arg(write.as_raw_fd().to_string());
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share the log")?)
        .stderr(log);
    command.current_dir("/");
    // A session of its own, so that closing this terminal does not end it.
    let child = spawn_in_session(command)?;
    drop(write);
    match relay(read) {
        Some(Reported::Ready) => {
            tell_how_to_go_on(places, false);
            return Ok(ExitCode::SUCCESS);
        }
        Some(Reported::Taken) => {
            tell_taken(places, Doing::Starting);
            return Ok(ExitCode::SUCCESS);
        }
        None => {}
    }
    let output = child
        .wait_with_output()
        .context("wait for the background process")?;
    bail!(
        "the start failed ({}); the end of {}:\n{}",
        output.status,
        places.log().display(),
        tail(places)
    )
}

fn spawn_in_session(mut command: Command) -> Result<std::process::Child> {
    command.process_group(0);
    command.spawn().context("start the background process")
}

/// How a start in the background came out.
enum Reported {
    Ready,
    Taken,
}

/// Prints what the background process reports. `None` when it ends without having come to anything.
fn relay(read: OwnedFd) -> Option<Reported> {
    let file = std::fs::File::from(read);
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        match line.as_str() {
            READY => return Some(Reported::Ready),
            TAKEN => return Some(Reported::Taken),
            step => eprintln!("• {step}"),
        }
    }
    None
}

fn tail(places: &Places) -> String {
    const LINES: usize = 12;
    let text = std::fs::read_to_string(places.log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// The same command line without `--detach`.
fn arguments(places: &Places, up: &Up) -> Vec<String> {
    let Up {
        detach: _,
        node_name,
        port,
        node_port,
        cluster_cidr,
        service_cidr,
        cluster_domain,
        api_horizon,
        log,
        report_fd: _,
    } = up;
    let data_dir = places.data_dir.display().to_string();
    let mut all = vec![
        "up".to_owned(),
        "--instance".to_owned(),
        places.instance.clone(),
        "--data-dir".to_owned(),
        data_dir,
    ];
    let numbers = [("--port", port), ("--node-port", node_port)];
    let texts = [
        ("--node-name", node_name),
        ("--cluster-cidr", cluster_cidr),
        ("--service-cidr", service_cidr),
        ("--cluster-domain", cluster_domain),
    ];
    for (flag, number) in numbers {
        all.extend(number.iter().flat_map(|n| [flag.to_owned(), n.to_string()]));
    }
    for (flag, text) in texts {
        all.extend(text.iter().flat_map(|t| [flag.to_owned(), t.clone()]));
    }
    all.extend(
        api_horizon
            .iter()
            .flat_map(|d| ["--api-horizon".to_owned(), format!("{}s", d.as_secs())]),
    );
    all.extend(["--log".to_owned(), log.clone()]);
    all
}
