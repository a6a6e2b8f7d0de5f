//! Typed wrappers for the system calls that the product needs.
