//! JSON text to [`Value`] and back.
//!
//! The parser reports duplicate members with their paths and keeps int64 apart from floats; the writer escapes as Go's
//! `encoding/json` does (`<`, `>`, `&`, U+2028, U+2029), because answers are compared byte for byte.

mod indent;
mod parse;
mod write;

pub use indent::indent;
pub use parse::{JsonError, MAX_DEPTH, MAX_READ_DEPTH, parse, parse_reporting, parse_within};
pub use write::{to_vec, write, write_string};

#[cfg(test)]
mod tests;
