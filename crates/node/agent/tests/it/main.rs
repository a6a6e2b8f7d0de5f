//! The agent on the real runtime, image store, pod network and API server. Root; each test has a node of its own.

mod adoption;
mod lab;
mod life;
mod probes;
mod volumes;
