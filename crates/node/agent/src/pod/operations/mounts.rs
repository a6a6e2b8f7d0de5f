//! A container's mounts: its volumes and the files that the agent manages.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cloudeck_linux::inroot;
use cloudeck_runtime::{BindPropagation, Mount, MountSource};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, VolumeMount};

use crate::env::expand;
use crate::etc_files::{self, Resolver};
use crate::node::Node;
use crate::pod::names::PodNames;
use crate::volumes;

/// Why the mounts could not be made ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum MountsError {
    #[error("volume mount {0:?} names no volume of the pod")]
    NoVolume(String),
    #[error("missing value for {0}")]
    NoValue(String),
    #[error("error SubPath `{0}` must not be an absolute path")]
    AbsoluteSubPath(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    SubPathAbove(String),
    #[error("{attempt} {path}")]
    Io {
        attempt: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

/// The mounts, and where the termination message will be.
pub(super) struct Mounts {
    pub(super) mounts: Vec<Mount>,
    pub(super) termination_path: PathBuf,
}

pub(super) fn prepare(
    node: &Node,
    pod: &Pod,
    spec: &PodSpec,
    container: &Container,
    attempt: u32,
    pod_ip: Option<IpAddr>,
    env: &[String],
) -> Result<Mounts, MountsError> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        mounts.push(volume(node, pod, spec, mount, env)?);
    }
    let taken: Vec<PathBuf> = mounts.iter().map(|m| m.destination.clone()).collect();
    let dir = node
        .config
        .pods_dir()
        .join(pod.metadata.uid.as_deref().unwrap_or_default());
    let mut managed = |destination: &str, path: PathBuf, readonly: bool| {
        if !taken.iter().any(|other| other == Path::new(destination)) {
            mounts.push(bind(destination, path, readonly));
        }
    };
    let etc = dir.join("etc");
    managed(
        "/etc/hosts",
        write(&etc.join("hosts"), &hosts(node, pod, spec, pod_ip), 0o644)?,
        false,
    );
    managed(
        "/etc/resolv.conf",
        write(&etc.join("resolv.conf"), &resolv_conf(node, pod, spec), 0o644)?,
        false,
    );
    managed(
        "/etc/hostname",
        write(
            &etc.join("hostname"),
            &format!("{}\n", host_name(node, pod, spec)),
            0o644,
        )?,
        false,
    );
    let message = dir
        .join("containers")
        .join(&container.name)
        .join(format!("{attempt}.message"));
    let inside = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    managed(inside, write(&message, "", 0o666)?, false);
    Ok(Mounts {
        mounts,
        termination_path: message,
    })
}

fn bind(destination: &str, path: PathBuf, readonly: bool) -> Mount {
    Mount {
        destination: PathBuf::from(destination),
        source: MountSource::Bind { path, sub_path: None },
        readonly,
        recursive_readonly: false,
        propagation: BindPropagation::Private,
    }
}

fn volume(
    node: &Node,
    pod: &Pod,
    spec: &PodSpec,
    mount: &VolumeMount,
    env: &[String],
) -> Result<Mount, MountsError> {
    let volume = spec.volumes.iter().flatten().find(|v| v.name == mount.name);
    let volume = volume.ok_or_else(|| MountsError::NoVolume(mount.name.clone()))?;
    let sub_path = sub_path(mount, env)?;
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => BindPropagation::HostToContainer,
        Some("Bidirectional") => BindPropagation::Bidirectional,
        _ => BindPropagation::Private,
    };
    // Volumes made of API data are read-only whatever the pod says: a swap would lose what was written.
    let api_data = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some();
    let path = volumes::path(node, pod, volume);
    if let Some(sub) = &sub_path {
        make_sub_path(&path, sub)?;
    }
    Ok(Mount {
        destination: PathBuf::from(&mount.mount_path),
        source: MountSource::Bind { path, sub_path },
        readonly: mount.read_only == Some(true) || api_data,
        recursive_readonly: matches!(
            mount.recursive_read_only.as_deref(),
            Some("Enabled" | "IfPossible")
        ),
        propagation,
    })
}

/// The part of the volume that is meant, with the container's own variables in it.
///
/// Source: `makeMounts` in `pkg/kubelet/kubelet_pods.go`.
fn sub_path(mount: &VolumeMount, env: &[String]) -> Result<Option<PathBuf>, MountsError> {
    let expression = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty());
    let path = match expression {
        None => mount.sub_path.clone().unwrap_or_default(),
        Some(text) => {
            let known: BTreeMap<&str, &str> = env.iter().filter_map(|pair| pair.split_once('=')).collect();
            let missing = RefCell::new(BTreeSet::new());
            let path = expand(text, &|name: &str| {
                let value = known.get(name).copied().unwrap_or_default();
                if value.is_empty() {
                    missing.borrow_mut().insert(name.to_owned());
                }
                Some(value.to_owned())
            });
            let missing: Vec<String> = missing.into_inner().into_iter().collect();
            if !missing.is_empty() {
                return Err(MountsError::NoValue(missing.join(", ")));
            }
            path
        }
    };
    if path.starts_with('/') {
        return Err(MountsError::AbsoluteSubPath(path));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(MountsError::SubPathAbove(path));
    }
    Ok(Some(path).filter(|path| !path.is_empty()).map(PathBuf::from))
}

fn hosts(node: &Node, pod: &Pod, spec: &PodSpec, pod_ip: Option<IpAddr>) -> String {
    if spec.host_network == Some(true) {
        let host = fs::read_to_string("/etc/hosts").unwrap_or_default();
        return etc_files::host_network_hosts(&host, spec);
    }
    let names = PodNames::of(pod, spec, &node.config.cluster_domain);
    etc_files::hosts(&names, spec, pod_ip)
}

/// The name that the container's processes see: the machine's in its network.
fn host_name(node: &Node, pod: &Pod, spec: &PodSpec) -> String {
    if spec.host_network == Some(true) {
        let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        return own.trim().to_owned();
    }
    let names = PodNames::of(pod, spec, &node.config.cluster_domain);
    // One that does not fit has kept the pod from having a sandbox.
    names.of_kernel(spec).unwrap_or(names.host)
}

fn resolv_conf(node: &Node, pod: &Pod, spec: &PodSpec) -> String {
    let host = Resolver::parse(&host_resolv_conf());
    etc_files::resolver(
        pod,
        spec,
        &host,
        node.config.cluster_dns,
        &node.config.cluster_domain,
    )
    .render()
}

/// The host's resolver; a stub on loopback, which no pod can reach, is followed to the servers behind it.
fn host_resolv_conf() -> String {
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if own.contains("nameserver 127.0.0.53") {
        return fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(own);
    }
    own
}

/// Makes the directory of a `subPath` that is not there, with the volume's own mode, so that who may write to the volume
/// may write to it. A container may have left links in the volume: they are followed inside it only.
fn make_sub_path(volume: &Path, sub: &Path) -> Result<(), MountsError> {
    let failed = |source| MountsError::Io {
        attempt: "make the subPath",
        path: volume.join(sub),
        source,
    };
    let root = fs::File::open(volume).map_err(failed)?;
    match inroot::open(&root, sub, libc::O_PATH) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        // Whatever else is wrong with it, the mount says so.
        _ => return Ok(()),
    }
    let permissions = root.metadata().map_err(failed)?.permissions();
    let made = inroot::open_or_make_dir(&root, sub, permissions.mode() & 0o7777).map_err(failed)?;
    // The mode given to mkdir is cut by the umask.
    fs::set_permissions(format!("/proc/self/fd/{}", made.as_raw_fd()), permissions).map_err(failed)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<PathBuf, MountsError> {
    let io = |attempt| {
        let path = path.to_owned();
        move |source| MountsError::Io {
            attempt,
            path,
            source,
        }
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(io("make the directory of"))?;
    }
    fs::write(path, text).map_err(io("write"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io("set the mode of"))?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_missing_sub_path_gets_the_volumes_mode_and_a_present_one_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2777)).unwrap();
        make_sub_path(dir.path(), Path::new("a/b")).unwrap();
        assert_eq!(mode(&dir.path().join("a/b")), 0o2777);
        fs::set_permissions(dir.path().join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
        make_sub_path(dir.path(), Path::new("a/b")).unwrap();
        assert_eq!(mode(&dir.path().join("a/b")), 0o700);
    }

    #[test]
    fn a_sub_path_made_of_variables_stays_below_and_misses_none() {
        let env = ["A=a", "UP=..", "TOP=/tmp", "NONE="].map(str::to_owned);
        let found = |expression: &str| {
            let mount = VolumeMount {
                sub_path_expr: Some(expression.to_owned()),
                ..VolumeMount::default()
            };
            sub_path(&mount, &env).map_err(|error| error.to_string())
        };
        assert_eq!(found("$(A)/b"), Ok(Some(PathBuf::from("a/b"))));
        for (expression, why) in [
            ("$(B)$(NONE)", "missing value for B, NONE"),
            ("$(TOP)", "error SubPath `/tmp` must not be an absolute path"),
            (
                "x/$(UP)",
                "unable to provision SubPath `x/..`: must not contain '..'",
            ),
        ] {
            assert_eq!(found(expression), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_sub_path_through_a_link_stays_in_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        make_sub_path(dir.path(), Path::new("out/x")).unwrap();
        assert!(!outside.path().join("x").exists());
    }
}
