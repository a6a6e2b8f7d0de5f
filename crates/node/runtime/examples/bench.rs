//! What a container's life costs: `cargo run -p cloudeck-runtime --example bench [--release]`.
//!
//! Prints the time from create to the end of `true`, in a sandbox that exists, with overlay, seccomp and cgroups; the
//! time that a sandbox takes; and the private memory of shim and infra process. The end is counted when the program has
//! ended and again when that is durable: the difference is the disk's. An argument names the program that becomes the
//! shim (the product's binary is larger than this one).

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloudeck_runtime::{
    ContainerConfig, Rootfs, Runtime, RuntimeConfig, SHIM_WORD, SandboxConfig, SandboxId,
};
use cloudeck_task::Scope;

const ROUNDS: usize = 60;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(SHIM_WORD) {
        cloudeck_linux::process::exit_now(cloudeck_runtime::shim_main());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(bench());
}

async fn bench() {
    let dir = std::env::temp_dir().join(format!("ck-bench-{}", std::process::id()));
    let instance = format!("bench-{}", std::process::id());
    let mut config = RuntimeConfig::new(&instance, dir.join("state"));
    if let Some(program) = std::env::args().nth(1) {
        config.shim_exe = program.into();
    }
    let image = dir.join("image");
    std::fs::create_dir_all(image.join("bin")).expect("an image");
    std::fs::copy("/bin/busybox", image.join("bin/true")).expect("busybox-static is installed");
    let scope = Scope::root("bench");
    let runtime = Runtime::open(config.clone(), &scope).await.expect("opens");
    if let Err(error) = measure(&runtime, &dir).await {
        eprintln!("{error}");
    }
    drop(runtime);
    scope.shutdown(Duration::from_secs(5)).await;
    let report = Runtime::purge(&config, true).await;
    report.left.iter().for_each(|left| eprintln!("left: {left}"));
    let _ = std::fs::remove_dir_all(dir);
}

async fn measure(runtime: &Runtime, dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut sandboxes = Vec::new();
    for number in 0..20 {
        let pod = SandboxConfig {
            cgroup_parent: format!("pods/p{number}"),
            ..SandboxConfig::default()
        };
        let begin = Instant::now();
        let id = runtime.run_pod_sandbox(pod).await?.id;
        sandboxes.push((begin.elapsed(), id));
    }
    show("sandbox start", sandboxes.iter().map(|(time, _)| *time).collect());
    let sandbox = sandboxes[0].1.clone();
    let mut steps = Steps::default();
    for number in 0..ROUNDS {
        steps.round(runtime, dir, &sandbox, number).await?;
    }
    show("container create", steps.create);
    show("container start", steps.start);
    show("container create + start + end of the program", steps.ended);
    show("container create + start + durable end", steps.durable);
    let status = runtime.sandbox_status(&sandbox)?;
    println!(
        "private memory: shim {} kB, infra {} kB",
        anonymous(status.shim_pid).unwrap_or(0),
        anonymous(status.infra_pid).unwrap_or(0)
    );
    let mut alone = Vec::new();
    for number in 0..8 {
        // As a user starts a pod: out of quiet, when the kernel has gone back to its slow paths.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let begin = Instant::now();
        sandboxes.push((
            Duration::ZERO,
            start_pod(runtime.clone(), dir.to_owned(), 100 + number).await?,
        ));
        alone.push(begin.elapsed());
    }
    show("pod start after a pause", alone);
    let begin = Instant::now();
    let starts = (0..30).map(|number| start_pod(runtime.clone(), dir.to_owned(), number));
    let together = futures(starts.collect()).await;
    println!(
        "thirty pods at once, until all programs run: {:.1} ms",
        begin.elapsed().as_secs_f64() * 1e3
    );
    for id in together {
        sandboxes.push((Duration::ZERO, id?));
    }
    let mut removal = Vec::new();
    for (_, id) in sandboxes {
        let begin = Instant::now();
        runtime.remove_pod_sandbox(&id).await?;
        removal.push(begin.elapsed());
    }
    show("sandbox removal", removal);
    Ok(())
}

type Started = Result<SandboxId, cloudeck_runtime::RequestError>;

async fn start_pod(runtime: Runtime, dir: PathBuf, number: usize) -> Started {
    let pod = SandboxConfig {
        cgroup_parent: format!("pods/q{number}"),
        ..SandboxConfig::default()
    };
    let sandbox = runtime.run_pod_sandbox(pod).await?.id;
    let mut config = container(&dir, 1_000 + number);
    config.argv = vec!["/bin/true".to_owned()];
    let id = runtime.create_container(&sandbox, config).await?;
    runtime.start_container(&id).await?;
    Ok(sandbox)
}

/// Runs all at once.
async fn futures(starts: Vec<impl Future<Output = Started> + Send + 'static>) -> Vec<Started> {
    let scope = Scope::root("thirty");
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    for start in starts {
        let sender = sender.clone();
        scope.spawn("pod", async move {
            let _ = sender.send(start.await).await;
        });
    }
    drop(sender);
    let mut all = Vec::new();
    while let Some(one) = receiver.recv().await {
        all.push(one);
    }
    all
}

#[derive(Default)]
struct Steps {
    create: Vec<Duration>,
    start: Vec<Duration>,
    ended: Vec<Duration>,
    durable: Vec<Duration>,
}

impl Steps {
    async fn round(
        &mut self,
        runtime: &Runtime,
        dir: &Path,
        sandbox: &SandboxId,
        number: usize,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let begin = Instant::now();
        let id = runtime.create_container(sandbox, container(dir, number)).await?;
        self.create.push(begin.elapsed());
        let process = cloudeck_linux::pidfd::open(runtime.container_status(&id)?.pid)?;
        let before = Instant::now();
        runtime.start_container(&id).await?;
        self.start.push(before.elapsed());
        let end = tokio::task::spawn_blocking(move || {
            cloudeck_linux::pidfd::wait_end(process, Duration::from_secs(10)).map(|_| Instant::now())
        });
        runtime.wait_container(&id).await?;
        self.durable.push(begin.elapsed());
        self.ended.push(end.await?? - begin);
        runtime.remove_container(&id).await?;
        Ok(())
    }
}

fn container(dir: &Path, number: usize) -> ContainerConfig {
    ContainerConfig {
        argv: vec!["/bin/true".to_owned()],
        rootfs: Rootfs {
            lowers: vec![dir.join("image")],
            upper: dir.join(format!("c{number}/upper")),
            work: dir.join(format!("c{number}/work")),
            readonly: false,
        },
        log_path: Some(dir.join(format!("c{number}/log"))),
        ..ContainerConfig::default()
    }
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{what}: p10 {:.2} p50 {:.2} p90 {:.2} ms", at(10), at(50), at(90));
}

/// The memory that is a process's own, in kB.
fn anonymous(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/smaps_rollup"))).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
