//! Field paths as upstream prints them: `spec.containers[0].env[name]`, `metadata.labels[a.b/c]`.

use std::fmt;

/// A path to a field, built by extension; cheap enough for error paths, not meant for hot ones.
#[derive(Debug, Clone, PartialEq, Eq, Default, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// The root; prints as `<nil>` like upstream when used alone.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path of one or more members, dots between them.
    pub fn new(members: &str) -> Self {
        Self(members.to_owned())
    }

    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self([&self.0, ".", name].concat())
        }
    }

    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An element of a map or of a list with keys.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self([&self.0, "[", key, "]"].concat())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}
