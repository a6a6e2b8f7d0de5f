//! Typed views of the built-in kinds: one non-generic decode and encode per kind.
