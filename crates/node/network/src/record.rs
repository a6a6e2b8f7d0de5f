//! What must survive the daemon: settings as they were found, and where allocation stood.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const FILE: &str = "network.json";
const CURSOR_FILE: &str = "last-address";
const VERSION: u32 = 1;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What was changed on the host and how it was before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    version: u32,
    /// A reboot undoes everything by itself; the old values then say nothing any more.
    boot_id: String,
    /// Setting → value before, relative to `/proc/sys`.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Addresses put on the loopback device.
    pub(crate) loopback_addresses: Vec<Ipv4Addr>,
    /// Ranges routed to the loopback device.
    pub(crate) loopback_routes: Vec<String>,
}

/// Why the record could not be used.
#[derive(Debug)]
pub(crate) struct RecordError {
    pub(crate) action: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: std::io::Error,
}

impl Record {
    /// The record of this boot; an empty one when there is none.
    pub(crate) fn load(state_dir: &Path) -> Result<Self, RecordError> {
        let boot_id = read(Path::new(BOOT_ID))?.unwrap_or_default().trim().to_owned();
        let fresh = Self {
            version: VERSION,
            boot_id,
            ..Self::default()
        };
        let path = state_dir.join(FILE);
        let Some(text) = read(&path)? else {
            return Ok(fresh);
        };
        let found: Self = serde_json::from_str(&text).map_err(|error| RecordError {
            action: "understand the network record",
            path: path.clone(),
            source: error.into(),
        })?;
        if found.version != VERSION {
            let text = format!("version {} is not supported", found.version);
            let source = std::io::Error::new(ErrorKind::Unsupported, text);
            return Err(RecordError {
                action: "understand the network record",
                path,
                source,
            });
        }
        Ok(if found.boot_id == fresh.boot_id {
            found
        } else {
            fresh
        })
    }

    /// Makes the record durable. Called before the change that it tells of.
    pub(crate) fn save(&self, state_dir: &Path) -> Result<(), RecordError> {
        let text = serde_json::to_string_pretty(self).expect("a record has only string keys");
        let path = state_dir.join(FILE);
        let write = || {
            std::fs::create_dir_all(state_dir)?;
            let temporary = path.with_extension("tmp");
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            File::open(state_dir)?.sync_all()
        };
        write().map_err(|source| RecordError {
            action: "write the network record",
            path: path.clone(),
            source,
        })
    }

    pub(crate) fn remove(state_dir: &Path) -> Result<(), RecordError> {
        for file in [FILE, CURSOR_FILE] {
            let path = state_dir.join(file);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(RecordError {
                        action: "remove the network record",
                        path,
                        source: error,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The last address given out, if that is known. A lost one only shortens the time until an address is used again.
pub(crate) fn load_cursor(state_dir: &Path) -> Option<Ipv4Addr> {
    std::fs::read_to_string(state_dir.join(CURSOR_FILE))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// Notes the last address given out. Not synced: it matters only while the kernel, and with it the pods, live on.
pub(crate) fn save_cursor(state_dir: &Path, cursor: Ipv4Addr) -> std::io::Result<()> {
    let path = state_dir.join(CURSOR_FILE);
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, cursor.to_string())?;
    std::fs::rename(temporary, path)
}

fn read(path: &Path) -> Result<Option<String>, RecordError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecordError {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::load(dir.path()).unwrap();
        record
            .sysctls
            .insert("net/ipv4/ip_forward".to_owned(), "0".to_owned());
        record.loopback_addresses.push(Ipv4Addr::new(169, 254, 1, 1));
        record.save(dir.path()).unwrap();
        assert_eq!(Record::load(dir.path()).unwrap(), record);
    }

    #[test]
    fn a_record_of_an_earlier_boot_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::load(dir.path()).unwrap();
        record.boot_id = "another".to_owned();
        record
            .sysctls
            .insert("net/ipv4/ip_forward".to_owned(), "0".to_owned());
        record.save(dir.path()).unwrap();
        assert!(Record::load(dir.path()).unwrap().sysctls.is_empty());
    }

    #[test]
    fn a_record_of_a_later_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record {
            version: 2,
            ..Record::load(dir.path()).unwrap()
        };
        record.save(dir.path()).unwrap();
        assert!(
            Record::load(dir.path())
                .unwrap_err()
                .source
                .to_string()
                .contains("version 2")
        );
    }
}
