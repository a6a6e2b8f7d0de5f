//! YAML text to [`Value`] and back, as kubectl and the API server read and write it.
//!
//! Scalars resolve by YAML 1.1 (`yes` and `off` are booleans, `0777` is octal), because upstream's library does; numbers
//! come out as they would after the detour through JSON that upstream makes. Aliases are expanded within a budget, merge
//! keys (`<<`) are followed, duplicate keys are reported with their lines.

mod read;
mod scalar;
mod write;

pub use write::write;

use crate::json;
use crate::value::Value;

/// Why a text is not YAML that JSON can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    #[error("yaml: invalid leading UTF-8 octet")]
    InvalidUtf8,
    #[error("yaml: line {line}: {problem}")]
    Syntax { line: usize, problem: String },
    #[error("yaml: {0}")]
    Content(String),
    #[error("yaml: exceeded max depth of {}", json::MAX_DEPTH)]
    TooDeep,
    #[error("yaml: document contains excessive aliasing")]
    ExcessiveAliasing,
}

/// Parses the first document; an empty text is null. Of duplicate keys the last wins.
pub fn parse(text: &[u8]) -> Result<Value, YamlError> {
    parse_reporting(text, &mut Vec::new())
}

/// As [`parse`], and appends a line like `line 3: key "a" already set in map` to `duplicates` for every repeated key.
pub fn parse_reporting(text: &[u8], duplicates: &mut Vec<String>) -> Result<Value, YamlError> {
    if text.trim_ascii_start().starts_with(b"{") {
        // Most "YAML" that clients send is JSON, which is read much faster as such.
        let mut repeated = Vec::new();
        if let Ok(tree) = json::parse_reporting(text, &mut repeated)
            && repeated.is_empty()
        {
            return Ok(tree);
        }
    }
    let text = std::str::from_utf8(text).map_err(|_| YamlError::InvalidUtf8)?;
    let mut reader = read::Reader::new(text, duplicates);
    Ok(reader.next_document()?.unwrap_or_default())
}

/// Parses all documents of a stream; empty ones are left out.
pub fn parse_all(text: &[u8]) -> Result<Vec<Value>, YamlError> {
    let text = std::str::from_utf8(text).map_err(|_| YamlError::InvalidUtf8)?;
    let mut duplicates = Vec::new();
    let mut reader = read::Reader::new(text, &mut duplicates);
    let mut documents = Vec::new();
    while let Some(document) = reader.next_document()? {
        if !document.is_null() {
            documents.push(document);
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests;
