//! Swaps a directory's whole content at once: files lie in a timestamped directory, `..data` points to it, and each
//! visible name is a link through `..data`. A reader sees the old set or the new one, never a mixture.
//!
//! Source: `pkg/volume/util/atomic_writer.go`; the layout is what applications watch for.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use super::SetUpError;
use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";
/// What the names of directories with content begin with; a number follows.
const CONTENT: &str = "..v";

/// Writes the payload; what stands of it already is left, and what a swap that was cut off has left is put right.
pub(super) fn write(dir: &Path, payload: &Payload, fs_group: Option<i64>) -> Result<(), SetUpError> {
    for path in payload.files.keys() {
        check_relative(path)?;
    }
    fs::create_dir_all(dir).map_err(SetUpError::io("make", dir))?;
    let current = fs::read_link(dir.join(DATA)).ok();
    let standing = current.filter(|name| same(&dir.join(name), payload));
    let name = match standing {
        Some(name) => name,
        None => swap_in(dir, payload, fs_group)?.into(),
    };
    link_names(dir, payload)?;
    sweep(dir, &name)
}

/// Makes a directory with the payload that `..data` points to. Returns its name.
fn swap_in(dir: &Path, payload: &Payload, fs_group: Option<i64>) -> Result<String, SetUpError> {
    let name = fresh_name(dir);
    let next = dir.join(&name);
    fill(&next, payload, fs_group)?;
    let link = dir.join(DATA_NEXT);
    remove_if_there(&link)?;
    symlink(&name, &link).map_err(SetUpError::io("link", &link))?;
    fs::rename(&link, dir.join(DATA)).map_err(SetUpError::io("swap in", &next))?;
    Ok(name)
}

fn check_relative(path: &str) -> Result<(), SetUpError> {
    let plain = !path.is_empty()
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if plain {
        Ok(())
    } else {
        Err(SetUpError::BadPath {
            path: path.to_owned(),
        })
    }
}

/// A name that no earlier swap used: the latest number and one more.
fn fresh_name(dir: &Path) -> String {
    let numbers = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix(CONTENT)?
                .parse::<u64>()
                .ok()
        });
    format!("{CONTENT}{}", numbers.max().unwrap_or(0) + 1)
}

fn fill(dir: &Path, payload: &Payload, fs_group: Option<i64>) -> Result<(), SetUpError> {
    fs::create_dir(dir).map_err(SetUpError::io("make", dir))?;
    for (path, file) in &payload.files {
        let target = dir.join(path);
        let parent = target.parent().unwrap_or(dir);
        fs::create_dir_all(parent).map_err(SetUpError::io("make", parent))?;
        fs::write(&target, &file.content).map_err(SetUpError::io("write", &target))?;
        // With a group of its own the volume's files are readable by it.
        let mode = if fs_group.is_some() {
            file.mode | 0o040
        } else {
            file.mode
        };
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))
            .map_err(SetUpError::io("set the mode of", &target))?;
        let (owner, group) = (file.owner, fs_group.map(|gid| gid as u32));
        if owner.is_some() || group.is_some() {
            std::os::unix::fs::chown(&target, owner, group)
                .map_err(SetUpError::io("set the owner of", &target))?;
        }
    }
    Ok(())
}

fn first_part(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

fn link_names(dir: &Path, payload: &Payload) -> Result<(), SetUpError> {
    let wanted: BTreeSet<&str> = payload.files.keys().map(|path| first_part(path)).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(SetUpError::io("link", &link))?;
        }
    }
    for entry in fs::read_dir(dir).map_err(SetUpError::io("list", dir))?.flatten() {
        let name = entry.file_name();
        let visible = name.to_str().is_some_and(|name| !name.starts_with(".."));
        if visible && !name.to_str().is_some_and(|name| wanted.contains(name)) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes what earlier swaps have left but for the content that is shown now.
fn sweep(dir: &Path, shown: &Path) -> Result<(), SetUpError> {
    for entry in fs::read_dir(dir).map_err(SetUpError::io("list", dir))?.flatten() {
        let name = entry.file_name();
        let is_content = name.to_str().is_some_and(|name| name.starts_with(CONTENT));
        if is_content && shown.as_os_str() != name {
            fs::remove_dir_all(entry.path()).map_err(SetUpError::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), SetUpError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(SetUpError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether the directory holds exactly the payload's contents.
fn same(dir: &Path, payload: &Payload) -> bool {
    count_files(dir) == payload.files.len()
        && payload
            .files
            .iter()
            .all(|(path, file)| fs::read(dir.join(path)).is_ok_and(|content| content == file.content))
}

fn count_files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                count_files(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |content: &str| File {
            content: content.as_bytes().to_vec(),
            mode: 0o644,
            owner: None,
        };
        Payload {
            files: files
                .iter()
                .map(|(path, content)| ((*path).to_owned(), file(content)))
                .collect(),
        }
    }

    #[test]
    fn a_swap_replaces_everything_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("v");
        write(&dir, &payload(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("d/b")).unwrap(), "2");
        let first = fs::read_link(dir.join(DATA)).unwrap();
        write(&dir, &payload(&[("a", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join("d").exists());
        assert!(!dir.join(&first).exists());
    }

    #[test]
    fn an_equal_payload_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &payload(&[("a", "1")]), None).unwrap();
        let before = fs::read_link(root.path().join(DATA)).unwrap();
        write(root.path(), &payload(&[("a", "1")]), None).unwrap();
        assert_eq!(fs::read_link(root.path().join(DATA)).unwrap(), before);
    }

    #[test]
    fn a_swap_that_was_cut_off_is_finished_the_next_time() {
        let root = tempfile::tempdir().unwrap();
        let payload = payload(&[("a", "1"), ("d/b", "2")]);
        write(root.path(), &payload, None).unwrap();
        // As if killed after the new directory was swapped in: names and old content as they were before.
        fs::remove_file(root.path().join("a")).unwrap();
        fs::remove_file(root.path().join("d")).unwrap();
        symlink("..data/old", root.path().join("old")).unwrap();
        fs::create_dir(root.path().join("..v0")).unwrap();
        write(root.path(), &payload, None).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(root.path().join("d/b")).unwrap(), "2");
        assert!(fs::symlink_metadata(root.path().join("old")).is_err());
        assert!(!root.path().join("..v0").exists(), "the old content");
    }

    #[test]
    fn paths_that_leave_the_volume_are_refused() {
        let root = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", ""] {
            assert!(
                write(root.path(), &payload(&[(path, "1")]), None).is_err(),
                "{path}"
            );
        }
    }
}
