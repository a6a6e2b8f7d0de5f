//! `tracing` to standard error, one line per event, data as fields.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitLoggingError {
    /// The filter does not parse.
    #[error("{filter:?} is not a log level or filter")]
    BadFilter {
        /// What was given.
        filter: String,
        /// Why it does not parse.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a subscriber already.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sends events to standard error. `filter` is a level (`info`) or directives (`info,cloudeck_agent=debug`).
pub fn init_logging(filter: &str) -> Result<(), InitLoggingError> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| InitLoggingError::BadFilter {
            filter: filter.to_owned(),
            source,
        })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(true)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InitLoggingError::AlreadySet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_refused_by_name() {
        let refused = init_logging("cloudeck=loud").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "\"cloudeck=loud\" is not a log level or filter"
        );
    }

    #[test]
    fn logging_is_set_up_once() {
        init_logging("warn,cloudeck=debug").unwrap();
        assert!(matches!(init_logging("info"), Err(InitLoggingError::AlreadySet)));
    }
}
