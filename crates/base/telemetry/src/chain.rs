//! Errors as a log line or a message tells them.

use std::error::Error;
use std::fmt::Write as _;

/// The error and what caused it, outermost first: `read the pod: connection reset`. For the place where an error is
/// handled, once; an error's own text never holds its cause.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let _ = write!(text, ": {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_their_effects() {
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(super::chain(&error), "outer: inner");
        assert_eq!(super::chain(&std::io::Error::other("alone")), "alone");
    }
}
