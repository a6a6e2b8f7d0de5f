//! Logging set-up and the process's own metrics registry.
