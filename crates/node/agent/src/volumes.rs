//! A pod's volumes on the node: set up before its containers, refreshed while it runs, removed after it.
//!
//! Each kind is a driver of its own file. Kinds made of API data (configMap, secret, projected, downwardAPI) build a
//! [`payload::Payload`] that [`atomic`] swaps in as a whole. Secrets and tokens lie in memory (the run directory).

mod atomic;
mod downward;
mod empty_dir;
mod host_path;
mod keeper;
mod payload;
mod projected;

pub(crate) use downward::FieldError;
pub(crate) use downward::{NodeFacts, field, resource_field};
pub(crate) use keeper::keep;
pub(crate) use payload::{read_config_map, read_secret};
pub(crate) use projected::request_token;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloudeck_machinery::Status;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};

use crate::node::Node;
use payload::{DEFAULT_MODE, Payload, Selection};

/// Why a volume could not be set up; the text of the `FailedMount` event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {cause}")]
    SetUp { volume: String, cause: SetUpError },
}

/// The cause within one volume.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    #[error("{kind} \"{name}\" not found")]
    ObjectMissing { kind: &'static str, name: String },
    #[error("{0}")]
    Api(Status),
    #[error("references non-existent {kind} key: {key}")]
    KeyMissing { kind: &'static str, key: String },
    #[error("hostPath type check failed: {path} is not {wanted}")]
    HostPathType { path: String, wanted: &'static str },
    #[error("invalid path {path:?}: must be relative and may not contain '..'")]
    BadPath { path: String },
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("{attempt} {path}")]
    Io {
        attempt: &'static str,
        path: String,
        source: std::io::Error,
    },
    #[error("volumes of the kind {kind} are not supported")]
    Unsupported { kind: &'static str },
}

impl SetUpError {
    fn io(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io {
            attempt,
            path,
            source,
        }
    }
}

/// Sets up all volumes of the pod. Idempotent; what stands already is brought up to date.
pub(crate) async fn prepare(node: &Arc<Node>, pod: &Pod) -> Result<(), VolumeError> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    for volume in spec.volumes.iter().flatten() {
        let set_up = set_up(node, pod, spec, volume).await;
        set_up.map_err(|cause| VolumeError::SetUp {
            volume: volume.name.clone(),
            cause,
        })?;
    }
    Ok(())
}

async fn set_up(node: &Arc<Node>, pod: &Pod, spec: &PodSpec, volume: &Volume) -> Result<(), SetUpError> {
    let path = path(node, pod, volume);
    let fs_group = spec.security_context.as_ref().and_then(|s| s.fs_group);
    if let Some(source) = &volume.host_path {
        return host_path::set_up(source);
    }
    if let Some(source) = &volume.empty_dir {
        return empty_dir::set_up(source, &path, fs_group);
    }
    let Some(payload) = payload(node, pod, volume).await? else {
        return Err(SetUpError::Unsupported {
            kind: kind_name(volume),
        });
    };
    atomic::write(&path, &payload, fs_group)
}

/// The files of a volume that is made of API data; `None` for other kinds.
async fn payload(node: &Arc<Node>, pod: &Pod, volume: &Volume) -> Result<Option<Payload>, SetUpError> {
    let mut payload = Payload::default();
    Ok(Some(if let Some(source) = &volume.config_map {
        let wanted = Selection {
            name: &source.name,
            items: source.items.as_deref().unwrap_or_default(),
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
            optional: source.optional == Some(true),
        };
        payload::add_config_map(node, pod, wanted, &mut payload).await?;
        payload
    } else if let Some(source) = &volume.secret {
        let wanted = Selection {
            name: source.secret_name.as_deref().unwrap_or_default(),
            items: source.items.as_deref().unwrap_or_default(),
            mode: source.default_mode.unwrap_or(DEFAULT_MODE),
            optional: source.optional == Some(true),
        };
        payload::add_secret(node, pod, wanted, &mut payload).await?;
        payload
    } else if let Some(source) = &volume.downward_api {
        downward::payload(
            node,
            pod,
            source.items.as_deref().unwrap_or_default(),
            source.default_mode,
        )?
    } else if let Some(source) = &volume.projected {
        projected::payload(node, pod, source).await?
    } else {
        return Ok(None);
    }))
}

/// Brings volumes made of API data up to date. One that fails stays as it stands, and keeps none of the others from it.
///
/// # Errors
/// The first one, when all volumes have been gone through.
pub(crate) async fn refresh(node: &Arc<Node>, pod: &Pod) -> Result<(), VolumeError> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let mut outcome = Ok(());
    for volume in spec.volumes.iter().flatten() {
        let refreshed = refresh_one(node, pod, spec, volume).await;
        outcome = outcome.and(refreshed.map_err(|cause| VolumeError::SetUp {
            volume: volume.name.clone(),
            cause,
        }));
    }
    outcome
}

async fn refresh_one(node: &Arc<Node>, pod: &Pod, spec: &PodSpec, volume: &Volume) -> Result<(), SetUpError> {
    let fs_group = spec.security_context.as_ref().and_then(|s| s.fs_group);
    match payload(node, pod, volume).await? {
        Some(payload) => atomic::write(&path(node, pod, volume), &payload, fs_group),
        None => Ok(()),
    }
}

/// Where the volume's content lies on the node.
pub(crate) fn path(node: &Node, pod: &Pod, volume: &Volume) -> PathBuf {
    if let Some(source) = &volume.host_path {
        return PathBuf::from(&source.path);
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let root = if holds_secrets(volume) {
        node.config.run_dir.join("pods")
    } else {
        node.config.pods_dir()
    };
    root.join(uid)
        .join("volumes")
        .join(kind_name(volume))
        .join(&volume.name)
}

fn holds_secrets(volume: &Volume) -> bool {
    volume.secret.is_some() || volume.projected.is_some()
}

fn kind_name(volume: &Volume) -> &'static str {
    macro_rules! first_of {
        ($($field:ident => $name:literal),* $(,)?) => {
            $(if volume.$field.is_some() { return $name; })*
        };
    }
    first_of! {
        empty_dir => "empty-dir", host_path => "host-path", config_map => "configmap", secret => "secret",
        projected => "projected", downward_api => "downward-api", persistent_volume_claim => "persistentVolumeClaim",
        csi => "csi", nfs => "nfs", iscsi => "iscsi", image => "image", ephemeral => "ephemeral", fc => "fc",
    }
    "other"
}

/// Removes everything that the pod's volumes left on the node. Host paths are not touched.
pub(crate) fn remove(node: &Node, uid: &str) -> std::io::Result<()> {
    let pod_dir = node.config.pods_dir().join(uid);
    empty_dir::unmount_all(&pod_dir.join("volumes").join("empty-dir"))?;
    for dir in [pod_dir, node.config.run_dir.join("pods").join(uid)] {
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
