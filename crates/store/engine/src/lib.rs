//! The datastore: etcd v3 semantics over memory ([`MemoryStore`]) or an embedded log ([`EmbeddedStore`]).
//!
//! One 64-bit revision counter, compare-and-swap, reads at a revision, watches from a revision, compaction, leases.
//!
//! It knows no API type: keys and values are bytes. It knows nothing of HTTP, Kubernetes or other machines, and starts
//! no process. Start reading at [`Store`] (the seam), then `state.rs` (what is visible), `index.rs` (the versions),
//! `staging.rs` (transactions), and for the log `embedded.rs`, `embedded/committer.rs` and `embedded/format.rs`.

mod blocking;
mod clock;
pub mod disk;
pub mod embedded;
mod error;
mod hub;
mod index;
mod lease;
mod memory;
mod model;
pub mod sim;
mod staging;
mod state;
mod store;
mod watch;

pub use clock::WallClock;
pub use embedded::{EmbeddedOptions, EmbeddedStore, KeeperMode, OpenError, RepairReport, repair};
pub use error::{CompactError, LeaseError, RangeError, ReadError, TxnError, WatchError};
pub use memory::{MemoryOptions, MemoryStore};
pub use model::{
    Compare, Event, EventKind, Expect, HistoryPolicy, KeyRange, KeyValue, LeaseId, Op, RangeRequest,
    RangeResponse, Revision, StoreStatus, Txn, TxnResponse, WatchBatch, WatchRequest,
};
pub use store::{BoxFuture, Store};
pub use watch::{Frontier, WatchStream};
