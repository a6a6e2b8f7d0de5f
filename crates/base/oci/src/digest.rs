//! Content identifiers: `sha256:` and 64 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PREFIX: &str = "sha256:";
const HEX_LENGTH: usize = 64;

/// A SHA-256 digest. Holds the bytes, so that no text of a stranger becomes a file name.
///
/// The specification also registers sha512; no registry in use serves it, so it is refused by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    #[error("invalid checksum digest format")]
    Format,
    #[error("unsupported digest algorithm {0:?}")]
    Algorithm(String),
    #[error("invalid checksum digest length")]
    Length,
}

impl Digest {
    /// The digest with these bytes, as a hash function gave them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 lower-case hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        use fmt::Write;
        self.0
            .iter()
            .fold(String::with_capacity(HEX_LENGTH), |mut text, byte| {
                write!(text, "{byte:02x}").expect("writing to a string cannot fail");
                text
            })
    }

    /// Reads 64 hexadecimal digits without the algorithm.
    pub fn from_hex(hex: &str) -> Result<Self, ParseDigestError> {
        if hex.len() != HEX_LENGTH {
            return Err(ParseDigestError::Length);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, ParseDigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseDigestError::Format),
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::from_hex(hex),
            Some((algorithm @ ("sha384" | "sha512"), _)) => {
                Err(ParseDigestError::Algorithm(algorithm.to_owned()))
            }
            _ => Err(ParseDigestError::Format),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_back_as_it_was_written() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
    }

    #[test]
    fn texts_that_could_be_paths_or_other_algorithms_are_refused() {
        for text in ["", "sha256:", "sha256:../../../../etc/passwd", "md5:00", "e3b0"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert_eq!(
            EMPTY.to_uppercase().parse::<Digest>(),
            Err(ParseDigestError::Format)
        );
        assert_eq!(
            format!("sha512:{}", "0".repeat(128)).parse::<Digest>(),
            Err(ParseDigestError::Algorithm("sha512".to_owned()))
        );
    }
}
