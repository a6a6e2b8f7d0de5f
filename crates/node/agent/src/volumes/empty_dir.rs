//! emptyDir volumes: a directory, or memory with a limit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cloudeck_linux::mount;
use cloudeck_machinery::quantity::Quantity;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::SetUpError;

pub(super) fn set_up(
    source: &EmptyDirVolumeSource,
    path: &Path,
    fs_group: Option<i64>,
) -> Result<(), SetUpError> {
    fs::create_dir_all(path).map_err(SetUpError::io("make", path))?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => mount_memory(source, path)?,
        _ => {
            return Err(SetUpError::Unsupported {
                kind: "emptyDir with huge pages",
            });
        }
    }
    let mode = if fs_group.is_some() { 0o2777 } else { 0o777 };
    if let Some(gid) = fs_group {
        std::os::unix::fs::chown(path, None, Some(gid as u32))
            .map_err(SetUpError::io("set the owner of", path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(SetUpError::io("set the mode of", path))
}

fn mount_memory(source: &EmptyDirVolumeSource, path: &Path) -> Result<(), SetUpError> {
    if is_mounted(path).map_err(SetUpError::io("look at", path))? {
        return Ok(());
    }
    let limit = source
        .size_limit
        .as_ref()
        .and_then(|limit| limit.0.parse::<Quantity>().ok())
        .map(Quantity::value);
    let size = limit
        .filter(|bytes| *bytes > 0)
        .map(|bytes| format!("size={bytes}"))
        .unwrap_or_default();
    let mount = || mount::mount_on("tmpfs", fs::File::open(path)?, "tmpfs", 0, &size);
    mount().map_err(SetUpError::io("mount memory on", path))
}

fn is_mounted(path: &Path) -> std::io::Result<bool> {
    Ok(mount::MountTable::of_self()?.at(path).is_some())
}

/// Unmounts the memory volumes below `dir`.
pub(super) fn unmount_all(dir: &Path) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if is_mounted(&entry.path())? {
            mount::detach(entry.path())?;
        }
    }
    Ok(())
}
