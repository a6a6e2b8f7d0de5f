//! Authentication and authorisation.
