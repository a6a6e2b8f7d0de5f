//! The real binary on machines of its own, used by real clients.
//!
//! A [`Machine`] is a set of namespaces (pid, mount, network, uts, ipc, cgroup) with a disk that outlives it, so that a
//! power failure is one call. A [`Cluster`] is `cloudeck up` on such a machine. Both end with their values, with the
//! test's process, and at the latest at the start of the next test on the host, which clears what dead ones left.
//!
//! Absences: no other crate of the product is used to look at the product; clients are kubectl, the crate `kube` and
//! plain sockets. Start reading at [`Cluster`].
#![allow(
    clippy::unwrap_used,
    reason = "only tests use it, and a failure in it is a failed test"
)]

mod cluster;
mod http;
pub mod image;
mod leftovers;
mod machine;
mod run;
mod terminal;

pub use cluster::{Cluster, shipped_binary};
pub use http::{HttpError, get};
pub use machine::Machine;
pub use run::{Done, run};
pub use terminal::Terminal;

use std::time::{Duration, Instant};

/// Far longer than anything here takes on a busy machine; who waits so long has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `probe` gives something.
///
/// # Panics
/// After [`PATIENCE`], with what it was waited for and what the last probe saw instead.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(saw) if Instant::now() >= deadline => panic!("waited in vain for {what}; last: {saw}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
