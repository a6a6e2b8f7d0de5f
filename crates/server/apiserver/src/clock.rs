//! The time, injected, and what is drawn by lot: uids and generated names.

use std::sync::Arc;

use cloudeck_machinery::Time;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// Another clock: tests and simulation.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }

    pub(crate) fn system_time(&self) -> std::time::SystemTime {
        self.now().into()
    }

    /// Seconds since the epoch.
    pub(crate) fn seconds(&self) -> i64 {
        self.now().as_second()
    }

    /// `2026-01-02T03:04:05Z`.
    pub(crate) fn timestamp(&self) -> String {
        Time::from_unix(self.seconds()).to_string()
    }
}

/// Draws uids and name suffixes.
pub(crate) struct Ids(SystemRandom);

/// Letters and digits that make no words, as upstream.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// A generated name is a DNS label.
const MAX_GENERATED: usize = 63;

impl Ids {
    pub(crate) fn new() -> Self {
        Self(SystemRandom::new())
    }

    pub(crate) fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).expect("the kernel gives random bytes");
        bytes
    }

    /// A version 4 UUID.
    pub(crate) fn uuid(&self) -> String {
        let mut bytes: [u8; 16] = self.bytes();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = String::with_capacity(36);
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text
    }

    /// `prefix` and five random characters, cut to the length of a DNS label.
    pub(crate) fn name_from(&self, prefix: &str) -> String {
        let mut end = prefix.len().min(MAX_GENERATED - SUFFIX);
        while !prefix.is_char_boundary(end) {
            end -= 1;
        }
        let mut name = prefix[..end].to_owned();
        for byte in self.bytes::<SUFFIX>() {
            name.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_says_version_four() {
        let id = Ids::new().uuid();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    }

    #[test]
    fn a_generated_name_is_a_label() {
        let name = Ids::new().name_from(&"x".repeat(80));
        assert_eq!(name.len(), 63);
        assert!(Ids::new().name_from("web-").starts_with("web-"));
    }
}
