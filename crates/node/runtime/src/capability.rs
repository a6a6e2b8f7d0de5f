//! Capabilities by name, and the set that a container gets.

use cloudeck_linux::caps;

use crate::config::{Capabilities, Security};

/// In the kernel's order.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has unless it is told otherwise.
const USUAL: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A capability was asked for that cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    #[error("unknown capability {0:?}")]
    Unknown(String),
    #[error("capability {0} is not available on this machine")]
    NotAvailable(String),
}

/// The number of the capability `name`, with or without `CAP_`.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|known| *known == bare)
        .map(|index| index as u32)
}

/// Whether `set` holds the capability `name`.
pub(crate) fn has(set: u64, name: &str) -> bool {
    number(name).is_some_and(|number| set & (1 << number) != 0)
}

/// The set for a container, out of what this process may give.
pub fn for_container(security: &Security) -> Result<u64, CapabilityError> {
    choose(security, caps::bounding())
}

fn choose(security: &Security, available: u64) -> Result<u64, CapabilityError> {
    let Capabilities { add, drop } = &security.capabilities;
    if security.privileged {
        return Ok(available);
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut set = if add.iter().any(is_all) {
        available
    } else if drop.iter().any(is_all) {
        0
    } else {
        USUAL
            .iter()
            .filter_map(|name| number(name))
            .fold(0, |set, n| set | 1 << n)
            & available
    };
    for name in drop.iter().filter(|name| !is_all(name)) {
        set &= !(1 << known(name)?);
    }
    for name in add.iter().filter(|name| !is_all(name)) {
        let bit = 1 << known(name)?;
        if available & bit == 0 {
            return Err(CapabilityError::NotAvailable(name.clone()));
        }
        set |= bit;
    }
    Ok(set)
}

fn known(name: &str) -> Result<u32, CapabilityError> {
    number(name).ok_or_else(|| CapabilityError::Unknown(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expected: &[&str]) {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let capabilities = Capabilities {
            add: own(add),
            drop: own(drop),
        };
        let set = choose(
            &Security {
                capabilities,
                ..Security::default()
            },
            u64::MAX,
        )
        .unwrap();
        let names: Vec<_> = expected.iter().filter(|name| has(set, name)).collect();
        assert_eq!(names.len(), expected.len(), "{set:#x}");
        assert_eq!(set.count_ones() as usize, expected.len());
    }

    #[test]
    fn the_usual_set_is_kept_when_nothing_is_said() {
        check(&[], &[], &USUAL);
    }

    #[test]
    fn all_can_be_dropped_and_one_added() {
        check(&["NET_BIND_SERVICE"], &["ALL"], &["NET_BIND_SERVICE"]);
        check(&["cap_chown"], &["all"], &["CHOWN"]);
    }

    #[test]
    fn an_added_capability_wins_over_the_same_dropped() {
        check(&["KILL"], &["ALL", "KILL"], &["KILL"]);
    }

    #[test]
    fn what_the_machine_does_not_have_fails_by_name() {
        let capabilities = Capabilities {
            add: vec!["SYS_RESOURCE".into()],
            drop: vec![],
        };
        let security = Security {
            capabilities,
            ..Security::default()
        };
        let error = choose(&security, !(1 << 24)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "capability SYS_RESOURCE is not available on this machine"
        );
        assert!(
            choose(
                &Security {
                    privileged: true,
                    ..security
                },
                !(1 << 24)
            )
            .is_ok()
        );
    }

    #[test]
    fn a_name_that_nobody_knows_is_refused() {
        let capabilities = Capabilities {
            add: vec!["FLY".into()],
            drop: vec![],
        };
        let security = Security {
            capabilities,
            ..Security::default()
        };
        assert_eq!(
            choose(&security, u64::MAX),
            Err(CapabilityError::Unknown("FLY".into()))
        );
    }
}
