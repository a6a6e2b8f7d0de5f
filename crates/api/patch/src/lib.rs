//! JSON patch, merge patch, strategic merge patch and server-side apply, as pure functions over the value tree.
//!
//! What lists and maps mean comes from `cloudeck_schema`; untyped trees fall back to upstream's deduced rules.
//! Knows nothing of HTTP, storage, clocks or particular kinds: content types, strict field validation, defaulting and
//! normalisation of the result are the caller's.
//!
//! Start reading at [`apply::track_update`], which every write passes, and
//! [`strategic::apply`].

pub mod apply;
pub mod fieldset;
mod go;
pub mod json_patch;
mod managed;
pub mod merge_patch;
pub mod strategic;
mod typed;

#[cfg(test)]
mod arbitrary;
