//! Names on the host, all derived from the instance's name.

use std::net::Ipv4Addr;

/// A link's alias starts with this, so that every link of every instance can be told from others.
const ALIAS_PREFIX: &str = "cloudeck";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const INSTANCE_LENGTH_MAX: usize = 40;
const POD_UID_LENGTH_MAX: usize = 128;

/// The names that one instance uses on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceNames {
    instance: String,
}

impl InstanceNames {
    /// `None` when the instance's name cannot be part of names on the host.
    pub fn new(instance: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=INSTANCE_LENGTH_MAX).contains(&instance.len()) && instance.bytes().all(allowed);
        valid.then(|| Self {
            instance: instance.to_owned(),
        })
    }

    /// The nftables table for what pods send outward.
    pub fn pod_table(&self) -> String {
        format!("cloudeck-{}-pods", self.instance)
    }

    /// Whether a table is another instance's counterpart of [`InstanceNames::pod_table`].
    pub(crate) fn is_foreign_pod_table(&self, table: &str) -> bool {
        table.starts_with("cloudeck-") && table.ends_with("-pods") && table != self.pod_table()
    }

    /// What all host ends of pods' links start with: 7 bytes.
    pub fn link_prefix(&self) -> String {
        format!("ck{}", letters(hash(self.instance.as_bytes()), 5))
    }

    /// The host end of a pod's link: 15 bytes, the most that the kernel takes.
    pub fn pod_link(&self, pod_uid: &str) -> String {
        format!("{}{}", self.link_prefix(), letters(hash(pod_uid.as_bytes()), 8))
    }

    /// The group of links that are about to be removed; never the default group.
    pub(crate) fn removal_group(&self) -> u32 {
        hash(self.instance.as_bytes()) as u32 | 0x4000_0000
    }

    /// What a finished link carries.
    pub(crate) fn alias(&self, pod_uid: &str, address: Ipv4Addr) -> String {
        format!("{ALIAS_PREFIX}:{}:{pod_uid}:{address}", self.instance)
    }

    /// The pod and address that an alias of this instance tells.
    pub(crate) fn read_alias<'a>(&self, alias: &'a str) -> Option<(&'a str, Ipv4Addr)> {
        let rest = alias.strip_prefix(ALIAS_PREFIX)?.strip_prefix(':')?;
        let (pod_uid, address) = rest
            .strip_prefix(&self.instance)?
            .strip_prefix(':')?
            .split_once(':')?;
        Some((pod_uid, address.parse().ok()?))
    }
}

/// Whether a uid can be part of an alias.
pub(crate) fn is_valid_pod_uid(pod_uid: &str) -> bool {
    (1..=POD_UID_LENGTH_MAX).contains(&pod_uid.len()) && !pod_uid.contains(':')
}

/// FNV-1a with a final mix: stable across versions, as links outlive the daemon.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn letters(hash: u64, count: u32) -> String {
    (0..count)
        .map(|place| char::from(ALPHABET[(hash >> (5 * place)) as usize & 31]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_link_fits_into_the_kernels_limit() {
        let names = InstanceNames::new("default").unwrap();
        assert_eq!(names.pod_link("4f9c8f3e-1111-2222-3333-444455556666").len(), 15);
    }

    #[test]
    fn names_stay_the_same_from_version_to_version() {
        let names = InstanceNames::new("default").unwrap();
        assert_eq!(
            names.pod_link("4f9c8f3e-1111-2222-3333-444455556666"),
            "ckmy74e73xyf2tg"
        );
    }

    #[test]
    fn an_alias_is_read_only_by_its_own_instance() {
        let (a, b) = (
            InstanceNames::new("a").unwrap(),
            InstanceNames::new("a-b").unwrap(),
        );
        let address = Ipv4Addr::new(10, 244, 0, 9);
        assert_eq!(a.read_alias(&a.alias("uid", address)), Some(("uid", address)));
        assert_eq!(b.read_alias(&a.alias("uid", address)), None);
        assert_eq!(a.read_alias(&b.alias("uid", address)), None);
        assert_eq!(a.read_alias("uplink to the lab"), None);
    }

    #[test]
    fn instance_names_that_would_break_host_names_are_refused() {
        for bad in ["", "A", "a b", "a:b", "a/b", &"x".repeat(41)] {
            assert_eq!(InstanceNames::new(bad), None, "{bad}");
        }
    }
}
