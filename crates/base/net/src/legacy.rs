//! The older iptables, which nftables does not know of: only whether it drops what passes through this host.
#![allow(
    unsafe_code,
    reason = "getsockopt(2) with the structures of ip_tables has no wrapper in rustix"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType};

/// Of the namespace of the calling thread.
const TABLES: &str = "/proc/thread-self/net/ip_tables_names";
const FILTER: &[u8] = b"filter";
const LEVEL_IP: libc::c_int = 0;
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
const NAME_BYTES: usize = 32;
/// Name, hooks, five entry points, five policies, count, size.
const INFO_BYTES: usize = NAME_BYTES + 4 + 5 * 4 + 5 * 4 + 4 + 4;
/// The offset of FORWARD's policy among the entries stands here: it is the third hook.
const FORWARD_POLICY_AT: usize = NAME_BYTES + 4 + 5 * 4 + 2 * 4;
const SIZE_AT: usize = INFO_BYTES - 4;
/// Name, size, padding.
const ENTRIES_HEADER_BYTES: usize = NAME_BYTES + 8;
/// Within an entry: the address part (84 bytes) and a cache field come first.
const TARGET_OFFSET_AT: usize = 88;
/// Within a target: size, name, revision come first.
const VERDICT_AT: usize = 32;
/// `-NF_DROP - 1`.
const DROP: i32 = -1;

/// Whether the policy of the chain FORWARD is to drop. Looks only: where iptables was never used, nothing is set up.
pub fn forward_drops() -> io::Result<bool> {
    let tables = match std::fs::read_to_string(TABLES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        tables => tables?,
    };
    if !tables.lines().any(|table| table.as_bytes() == FILTER) {
        return Ok(false);
    }
    let raw = rustix::net::ipproto::RAW;
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(raw))?;
    let mut info = vec![0; INFO_BYTES];
    info[..FILTER.len()].copy_from_slice(FILTER);
    get(&socket, GET_INFO, &mut info)?;
    let size = number(&info, SIZE_AT).ok_or(io::ErrorKind::InvalidData)?;
    let mut entries = vec![0; ENTRIES_HEADER_BYTES + size as usize];
    entries[..FILTER.len()].copy_from_slice(FILTER);
    entries[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&size.to_ne_bytes());
    get(&socket, GET_ENTRIES, &mut entries)?;
    policy_is_drop(&info, &entries[ENTRIES_HEADER_BYTES..]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn policy_is_drop(info: &[u8], entries: &[u8]) -> Option<bool> {
    let entry = number(info, FORWARD_POLICY_AT)? as usize;
    let target = entries
        .get(entry.checked_add(TARGET_OFFSET_AT)?..)?
        .first_chunk::<2>()?;
    let target = entry + usize::from(u16::from_ne_bytes(*target));
    Some(number(entries, target + VERDICT_AT)?.cast_signed() == DROP)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk::<4>()
        .map(|bytes| u32::from_ne_bytes(*bytes))
}

fn get(socket: &OwnedFd, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = buffer.len() as libc::socklen_t;
    let pointer = buffer.as_mut_ptr().cast();
    // SAFETY: the pointer and length describe `buffer`, which outlives the call; the kernel writes no further.
    let outcome = unsafe { libc::getsockopt(socket.as_raw_fd(), LEVEL_IP, option, pointer, &raw mut length) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetNamespace;

    fn check(verdict: i32, expected: bool) {
        let entry_at = 300_u32;
        let mut info = vec![0; INFO_BYTES];
        info[FORWARD_POLICY_AT..FORWARD_POLICY_AT + 4].copy_from_slice(&entry_at.to_ne_bytes());
        let mut entries = vec![0; 500];
        entries[388..390].copy_from_slice(&112_u16.to_ne_bytes());
        entries[444..448].copy_from_slice(&verdict.to_ne_bytes());
        assert_eq!(policy_is_drop(&info, &entries), Some(expected));
        assert_eq!(policy_is_drop(&info, &entries[..440]), None, "cut");
    }

    #[test]
    fn the_policy_is_the_verdict_of_the_chains_last_entry() {
        check(-1, true);
        check(-2, false);
    }

    #[test]
    fn a_namespace_where_iptables_was_never_used_is_open_and_stays_so() {
        let namespace = NetNamespace::create().unwrap();
        let look = || {
            (
                forward_drops().unwrap(),
                std::fs::read_to_string(TABLES).unwrap_or_default(),
            )
        };
        assert_eq!(namespace.run(look).unwrap(), (false, String::new()));
    }
}
