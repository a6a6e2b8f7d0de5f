//! The real server on the memory store, in-process, for tests.

pub mod image;
