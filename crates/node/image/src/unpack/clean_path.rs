//! Paths as archives state them, cleaned: relative to the layer's root, without `.`, `..` and empty parts.

use std::fmt;

use super::UnpackError;

/// Linux's own limit for one path.
const LENGTH_MAX: usize = 4096;
/// Deeper trees exist in no image, and cost a lookup per level of every entry.
pub(super) const DEPTH_MAX: usize = 256;

/// `a/b/c`; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CleanPath(Vec<u8>);

impl CleanPath {
    /// Cleans a path. Absolute ones are taken from the layer's root; one whose `..` leave it is refused.
    pub(super) fn parse(raw: &[u8]) -> Result<Self, UnpackError> {
        let text = || String::from_utf8_lossy(raw).into_owned();
        if raw.contains(&0) || raw.len() > LENGTH_MAX {
            return Err(UnpackError::Path(text()));
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in raw.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop().ok_or_else(|| UnpackError::Escapes(text()))?),
                part => parts.push(part),
            }
        }
        if parts.len() > DEPTH_MAX {
            return Err(UnpackError::TooDeep(text()));
        }
        Ok(Self(parts.join(&b'/')))
    }

    /// The directory and the name in it; none for the root.
    pub(super) fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self(Vec::new()), &self.0[..]),
        })
    }

    pub(super) fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|part| !part.is_empty())
    }

    pub(super) fn from_parts(parts: &[Vec<u8>]) -> Self {
        Self(parts.join(&b'/'))
    }

    pub(super) fn join(&self, name: &[u8]) -> Self {
        if self.0.is_empty() {
            Self(name.to_vec())
        } else {
            Self([&self.0, b"/".as_slice(), name].concat())
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For `openat2`: the root is `.`.
    pub(super) fn as_relative(&self) -> &[u8] {
        if self.0.is_empty() { b"." } else { &self.0 }
    }
}

impl fmt::Display for CleanPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, clean: &str) {
        assert_eq!(CleanPath::parse(raw.as_bytes()).unwrap().to_string(), clean);
    }

    #[test]
    fn paths_are_cleaned_lexically() {
        check("./a//b/./c/", "a/b/c");
        check("/etc/passwd", "etc/passwd");
        check("a/../b", "b");
        check("./", "");
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        for raw in ["..", "../x", "a/../../x", "/.."] {
            assert!(
                matches!(CleanPath::parse(raw.as_bytes()), Err(UnpackError::Escapes(_))),
                "{raw}"
            );
        }
        assert!(matches!(CleanPath::parse(b"a\0b"), Err(UnpackError::Path(_))));
        assert!(matches!(
            CleanPath::parse(&b"a/".repeat(300)),
            Err(UnpackError::TooDeep(_))
        ));
    }

    proptest! {
        #[test]
        fn a_clean_path_has_no_part_that_moves(raw in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), any::<u8>()], 0..64)) {
            if let Ok(path) = CleanPath::parse(&raw) {
                prop_assert!(path.parts().all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0)));
                prop_assert_eq!(CleanPath::parse(path.as_bytes()).unwrap(), path);
            }
        }
    }
}
