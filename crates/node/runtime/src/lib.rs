//! Sandboxes and containers on bare system calls, and the shim that holds them.
