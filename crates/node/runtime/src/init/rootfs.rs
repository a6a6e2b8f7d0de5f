//! The root file system: an overlay, seen by the container alone.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use cloudeck_linux::mount::{self, attribute};

use super::{SetupError, Step};
use crate::config::Rootfs;

/// The kernel takes one page of mount options.
const MAX_OPTIONS: usize = 4095;

/// Mounts the layers at `place` and returns the root.
pub(super) fn mount(rootfs: &Rootfs, place: &Path) -> Result<OwnedFd, SetupError> {
    if rootfs.lowers.is_empty() {
        return Err(SetupError::Refused(
            "the root file system has no layer".to_owned(),
        ));
    }
    let open = |path: &Path| File::open(path).step(|| format!("open layer {}", path.display()));
    // Through descriptors: names of any length and with any colon in them fit.
    let lowers = rootfs
        .lowers
        .iter()
        .map(|path| open(path))
        .collect::<Result<Vec<_>, _>>()?;
    for dir in [&rootfs.upper, &rootfs.work] {
        std::fs::create_dir_all(dir).step(|| format!("make {}", dir.display()))?;
    }
    let (upper, work) = (open(&rootfs.upper)?, open(&rootfs.work)?);
    let name = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    let stack: Vec<String> = lowers.iter().map(name).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        stack.join(":"),
        name(&upper),
        name(&work)
    );
    if options.len() > MAX_OPTIONS {
        return Err(SetupError::Refused(format!(
            "the root file system has too many layers: {}",
            lowers.len()
        )));
    }
    let target = mount::open_path(place).step(|| format!("open {}", place.display()))?;
    mount::mount_on("overlay", target, "overlay", 0, &options)
        .step(|| "mount the root file system".to_owned())?;
    mount::open_path(place).step(|| "open the root file system".to_owned())
}

/// Makes the root, which is `/` by now, read-only if asked. What is mounted below stays as it is.
pub(super) fn seal(rootfs: &Rootfs) -> Result<(), SetupError> {
    if !rootfs.readonly {
        return Ok(());
    }
    let step = || "make the root file system read-only".to_owned();
    let root = mount::open_path("/").step(step)?;
    mount::set_attributes(root, attribute::READ_ONLY, 0, false).step(step)
}
