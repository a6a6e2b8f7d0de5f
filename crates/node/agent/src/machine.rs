//! What the machine is: cores, memory, disk, kernel, operating system.

use std::fs;
use std::path::Path;

/// What pods can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub cpus: i64,
    pub memory_bytes: i64,
    pub disk_bytes: i64,
    pub pods: i64,
}

/// `status.nodeInfo`, as far as the machine says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MachineInfo {
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
}

impl Capacity {
    /// Reads the machine. `data_dir` is where images and volumes lie.
    pub fn read(data_dir: &Path, max_pods: u32) -> std::io::Result<Self> {
        let cpus = std::thread::available_parallelism()?.get();
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let stat = rustix::fs::statvfs(data_dir)?;
        Ok(Self {
            cpus: cpus as i64,
            memory_bytes: mem_total(&meminfo).unwrap_or(0),
            disk_bytes: i64::try_from(stat.f_blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX),
            pods: max_pods.into(),
        })
    }
}

fn mem_total(meminfo: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<i64>()
        .ok()
        .map(|kib| kib * 1024)
}

impl MachineInfo {
    /// Reads what there is; absent files leave empty fields, as in a container.
    pub(crate) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            machine_id: text("/etc/machine-id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel_version: text("/proc/sys/kernel/osrelease"),
            os_image: pretty_name(&text("/etc/os-release")).unwrap_or_else(|| "Linux".to_owned()),
        }
    }
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_are_read() {
        assert_eq!(
            mem_total("MemFree: 1 kB\nMemTotal:       24684084 kB\n"),
            Some(24_684_084 * 1024)
        );
        assert_eq!(
            pretty_name("NAME=x\nPRETTY_NAME=\"Debian 12\"\n").as_deref(),
            Some("Debian 12")
        );
    }

    #[test]
    fn the_machine_has_cores_and_memory() {
        let capacity = Capacity::read(Path::new("/"), 110).unwrap();
        assert!(capacity.cpus >= 1 && capacity.memory_bytes > 1 << 20 && capacity.disk_bytes > 1 << 20);
    }
}
