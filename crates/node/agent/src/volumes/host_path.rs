//! hostPath volumes: nothing is made but what the type asks for.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::SetUpError;

/// Checks, and makes where the type says so.
pub(super) fn set_up(source: &HostPathVolumeSource) -> Result<(), SetUpError> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let found = fs::metadata(path).ok();
    let check = |holds: bool, wanted| {
        let failed = SetUpError::HostPathType {
            path: source.path.clone(),
            wanted,
        };
        if holds { Ok(()) } else { Err(failed) }
    };
    match kind {
        "DirectoryOrCreate" if found.is_none() => make_directory(path),
        "FileOrCreate" if found.is_none() => make_file(path),
        "DirectoryOrCreate" | "Directory" => check(found.is_some_and(|m| m.is_dir()), "a directory"),
        "FileOrCreate" | "File" => check(found.is_some_and(|m| m.is_file()), "a file"),
        "Socket" => check(found.is_some_and(|m| m.file_type().is_socket()), "a socket file"),
        "CharDevice" => check(
            found.is_some_and(|m| m.file_type().is_char_device()),
            "a character device",
        ),
        "BlockDevice" => check(
            found.is_some_and(|m| m.file_type().is_block_device()),
            "a block device",
        ),
        // No type: a missing path becomes a directory, as container runtimes make the source of a bind mount.
        _ if found.is_none() => make_directory(path),
        _ => Ok(()),
    }
}

fn make_directory(path: &Path) -> Result<(), SetUpError> {
    fs::create_dir_all(path).map_err(SetUpError::io("make", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(SetUpError::io("set the mode of", path))
}

fn make_file(path: &Path) -> Result<(), SetUpError> {
    fs::File::create(path).map_err(SetUpError::io("make", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        .map_err(SetUpError::io("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &Path, kind: &str) -> HostPathVolumeSource {
        HostPathVolumeSource {
            path: path.display().to_string(),
            type_: Some(kind.to_owned()),
        }
    }

    #[test]
    fn types_are_checked_and_made() {
        let root = tempfile::tempdir().unwrap();
        let (dir, file) = (root.path().join("d"), root.path().join("f"));
        assert!(set_up(&source(&dir, "Directory")).is_err());
        set_up(&source(&dir, "DirectoryOrCreate")).unwrap();
        set_up(&source(&dir, "Directory")).unwrap();
        set_up(&source(&file, "FileOrCreate")).unwrap();
        let error = set_up(&source(&file, "Directory")).unwrap_err();
        assert!(error.to_string().ends_with("is not a directory"), "{error}");
    }
}
