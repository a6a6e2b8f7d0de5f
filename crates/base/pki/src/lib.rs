//! Certificate authorities, certificates and keys.
