//! From a pod's spec to what the runtime is told: sandbox and container configurations.
//!
//! Pure: environment, mounts and root file system come resolved. Source: `pkg/kubelet/kuberuntime`.

mod security;

use std::collections::BTreeMap;
use std::path::PathBuf;

use cloudeck_machinery::quantity::Quantity;
use cloudeck_runtime::{
    ContainerConfig, Mount, Namespaces, NetworkMode, PidMode, Resources, Rootfs, SandboxConfig,
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};

use super::amounts;

pub use security::{NonRootError, check_non_root};

/// Labels by which sandboxes and containers are recognised after a restart of the agent.
pub mod label {
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    /// The image's digest as `imageID` reports it.
    pub const IMAGE_ID: &str = "cloudeck.dev/image-id";
    /// The termination message's file on the node.
    pub const TERMINATION_PATH: &str = "cloudeck.dev/termination-message";
    /// The pod's address, so that a restarted agent reports it at once.
    pub const POD_IP: &str = "cloudeck.dev/pod-ip";
}

/// The part of an image that a container's configuration needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// `imageID`: a repository digest, or the image's id.
    pub image_id: String,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub user: String,
    pub working_dir: String,
    pub stop_signal: Option<i32>,
}

/// What of a container's surroundings has been resolved.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    pub attempt: u32,
    pub image: ImageFacts,
    /// `NAME=value`, expanded, the image's own not included.
    pub env: Vec<String>,
    pub mounts: Vec<Mount>,
    pub rootfs: Rootfs,
    pub log_path: PathBuf,
    pub termination_path: Option<PathBuf>,
    pub memory_capacity_bytes: i64,
    /// Where the node's own seccomp profiles lie.
    pub seccomp_profiles: PathBuf,
}

/// The pod's quality of service class, from requests and limits.
///
/// Source: `pkg/apis/core/v1/helper/qos`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// The class as the API server settled it at creation; computed where it is absent.
pub fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("BestEffort") => Qos::BestEffort,
        Some(_) => Qos::Burstable,
        None => compute_qos(pod.spec.as_ref()),
    }
}

fn compute_qos(spec: Option<&PodSpec>) -> Qos {
    let Some(spec) = spec else { return Qos::BestEffort };
    let mut any = false;
    let mut guaranteed = true;
    for container in super::decide::all_containers(spec) {
        let resources = container.resources.as_ref();
        for name in ["cpu", "memory"] {
            let limit = amount(resources.and_then(|r| r.limits.as_ref()), name);
            let request = amount(resources.and_then(|r| r.requests.as_ref()), name).or(limit);
            any |= limit.unwrap_or(0) > 0 || request.unwrap_or(0) > 0;
            guaranteed &= limit.is_some_and(|l| l > 0) && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

type Amounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// In thousandths: CPU in millicores, memory in thousandths of bytes.
fn amount(amounts: Option<&Amounts>, name: &str) -> Option<i64> {
    amounts?
        .get(name)?
        .0
        .parse::<Quantity>()
        .ok()
        .map(Quantity::milli_value)
}

/// The pod's cgroup below the instance's.
pub fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match qos(pod) {
        Qos::Guaranteed => format!("kubepods/pod{uid}"),
        Qos::Burstable => format!("kubepods/burstable/pod{uid}"),
        Qos::BestEffort => format!("kubepods/besteffort/pod{uid}"),
    }
}

/// The labels that sandboxes and containers of the pod carry.
pub fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    let meta = &pod.metadata;
    [
        (label::POD_NAMESPACE, &meta.namespace),
        (label::POD_NAME, &meta.name),
        (label::POD_UID, &meta.uid),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.clone().unwrap_or_default()))
    .collect()
}

/// What the sandbox shall be; `hostname` is not used with the host's network.
pub fn sandbox_config(pod: &Pod, spec: &PodSpec, hostname: String) -> SandboxConfig {
    let host_network = spec.host_network == Some(true);
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => PidMode::Host,
        (_, Some(true)) => PidMode::Pod,
        _ => PidMode::Container,
    };
    let network = if host_network {
        NetworkMode::Host
    } else {
        NetworkMode::Pod
    };
    let sysctls = spec.security_context.as_ref().and_then(|s| s.sysctls.as_ref());
    SandboxConfig {
        labels: pod_labels(pod),
        hostname: (!host_network).then_some(hostname),
        namespaces: Namespaces {
            network,
            pid,
            host_ipc: spec.host_ipc == Some(true),
        },
        sysctls: sysctls
            .into_iter()
            .flatten()
            .map(|s| (crate::admission::normal_sysctl(&s.name), s.value.clone()))
            .collect(),
        cgroup_parent: cgroup_parent(pod),
        resources: pod_resources(pod, spec),
        ..SandboxConfig::default()
    }
}

/// The pod cgroup's share and limits.
fn pod_resources(pod: &Pod, spec: &PodSpec) -> Resources {
    let (requests, limits) = (amounts::requests(spec), amounts::limits(spec));
    let milli = |amounts: &amounts::Amounts, name: &str| amounts.get(name).map(|a| a.milli_value());
    let cpu = milli(&limits, "cpu");
    let shares = if qos(pod) == Qos::BestEffort {
        2
    } else {
        cpu_shares(milli(&requests, "cpu").or(cpu).unwrap_or(0))
    };
    Resources {
        cpu_shares: Some(shares),
        cpu_quota: cpu.map(cpu_quota),
        cpu_period: cpu.map(|_| CPU_PERIOD_US),
        memory_limit_bytes: limits.get("memory").map(|limit| limit.value()),
        ..Resources::default()
    }
}

/// Microseconds; upstream's `cpu-cfs-quota-period` default.
const CPU_PERIOD_US: u64 = 100_000;

fn cpu_request(resources: Option<&ResourceRequirements>) -> Option<i64> {
    let resources = resources?;
    amount(resources.requests.as_ref(), "cpu").or_else(|| amount(resources.limits.as_ref(), "cpu"))
}

/// 1024 shares a core, at least 2.
fn cpu_shares(milli: i64) -> u64 {
    u64::try_from(milli)
        .unwrap_or(0)
        .saturating_mul(1024)
        .div_euclid(1000)
        .clamp(2, 262_144)
}

/// The kernel refuses quotas below a millisecond.
fn cpu_quota(milli: i64) -> i64 {
    (milli * 100).max(1000)
}

/// A container's own limits.
pub fn container_resources(resources: Option<&ResourceRequirements>) -> Resources {
    let limits = resources.and_then(|r| r.limits.as_ref());
    let cpu = amount(limits, "cpu").filter(|milli| *milli > 0);
    let hugepages = limits.into_iter().flatten().filter_map(|(name, value)| {
        let size = name.strip_prefix("hugepages-")?;
        let bytes = value.0.parse::<Quantity>().ok()?.value();
        Some((size.to_owned(), u64::try_from(bytes).ok()?))
    });
    Resources {
        cpu_shares: Some(cpu_shares(cpu_request(resources).unwrap_or(0))),
        cpu_quota: cpu.map(cpu_quota),
        cpu_period: cpu.map(|_| CPU_PERIOD_US),
        memory_limit_bytes: amount(limits, "memory")
            .map(|milli| milli / 1000)
            .filter(|bytes| *bytes > 0),
        hugepage_limits: hugepages.filter(|(_, bytes)| *bytes > 0).collect(),
        ..Resources::default()
    }
}

/// Upstream's `GetContainerOOMScoreAdjust`.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity_bytes: i64) -> i32 {
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let request = amount(requests, "memory").unwrap_or(0) / 1000;
            let score = 1000 - (1000 * request) / memory_capacity_bytes.max(1);
            // Between the guaranteed ones and those without any request.
            if score < 3 { 3 } else { score.min(999) as i32 }
        }
    }
}

/// What the container shall be.
pub fn container_config(
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    resolved: Resolved,
) -> ContainerConfig {
    let Resolved {
        attempt,
        image,
        env,
        mounts,
        mut rootfs,
        log_path,
        termination_path,
        memory_capacity_bytes,
        seccomp_profiles,
    } = resolved;
    let mut labels = pod_labels(pod);
    labels.insert(label::CONTAINER_NAME.to_owned(), container.name.clone());
    let mut annotations = BTreeMap::from([(label::IMAGE_ID.to_owned(), image.image_id.clone())]);
    if let Some(path) = &termination_path {
        annotations.insert(
            label::TERMINATION_PATH.to_owned(),
            path.to_string_lossy().into_owned(),
        );
    }
    if container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError") {
        annotations.insert(crate::termination::FALLBACK.to_owned(), "true".to_owned());
    }
    rootfs.readonly = container
        .security_context
        .as_ref()
        .and_then(|s| s.read_only_root_filesystem)
        == Some(true);
    let own_signal = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.stop_signal.as_deref());
    let own_signal = own_signal.and_then(crate::signals::number);
    let own_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
    let cwd = own_dir.or_else(|| (!image.working_dir.is_empty()).then(|| image.working_dir.clone()));
    ContainerConfig {
        name: container.name.clone(),
        attempt,
        image: container.image.clone().unwrap_or_default(),
        labels,
        annotations,
        argv: argv(container, &image, &env),
        env: merge_env(&image.env, env),
        cwd: cwd.map(PathBuf::from),
        user: security::user(spec, container, &image.user),
        rootfs,
        mounts,
        security: security::security(spec, container, &seccomp_profiles),
        oom_score_adj: Some(oom_score_adj(pod, container, memory_capacity_bytes)),
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        log_path: Some(log_path),
        resources: container_resources(container.resources.as_ref()),
        stop_signal: own_signal.or(image.stop_signal),
        ..ContainerConfig::default()
    }
}

/// `command` replaces the image's entrypoint and drops its cmd; `args` replaces cmd. `$(VAR)` is expanded.
fn argv(container: &Container, image: &ImageFacts, env: &[String]) -> Vec<String> {
    let known: BTreeMap<&str, &str> = env.iter().filter_map(|pair| pair.split_once('=')).collect();
    let lookup = |name: &str| known.get(name).map(|value| (*value).to_owned());
    let expand = |words: &Vec<String>| -> Vec<String> {
        words
            .iter()
            .map(|word| crate::env::expand(word, &lookup))
            .collect()
    };
    let command = container.command.as_ref().filter(|c| !c.is_empty()).map(expand);
    let args = container.args.as_ref().filter(|a| !a.is_empty()).map(expand);
    match (command, args) {
        (Some(command), args) => [command, args.unwrap_or_default()].concat(),
        (None, Some(args)) => [image.entrypoint.clone(), args].concat(),
        (None, None) => [image.entrypoint.clone(), image.cmd.clone()].concat(),
    }
}

/// The image's environment below the container's.
fn merge_env(image: &[String], own: Vec<String>) -> Vec<String> {
    let name = |pair: &str| pair.split_once('=').map_or(pair, |(name, _)| name).to_owned();
    let set: Vec<String> = own.iter().map(|pair| name(pair)).collect();
    let below = image.iter().filter(|pair| !set.contains(&name(pair))).cloned();
    below.chain(own).collect()
}

#[cfg(test)]
mod tests;
