//! What can go wrong, per operation.

use crate::model::{LeaseId, Revision};

/// A stored value that could not be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the value in segment {segment} at offset {offset} does not match its checksum")]
    Corrupt { segment: u32, offset: u64 },
    #[error("reading segment {segment} at offset {offset}: {reason}")]
    Io {
        segment: u32,
        offset: u64,
        reason: String,
    },
}

impl ReadError {
    /// The segment that holds the value.
    pub fn segment(&self) -> u32 {
        match self {
            Self::Corrupt { segment, .. } | Self::Io { segment, .. } => *segment,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The revision asked for is gone.
    #[error("the required revision has been compacted (compact revision {compact_revision})")]
    Compacted { compact_revision: Revision },
    #[error("the required revision is a future revision (current revision {revision})")]
    FutureRevision { revision: Revision },
    #[error(transparent)]
    Read(#[from] ReadError),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    #[error("a transaction may not touch a key twice")]
    DuplicateKey,
    #[error("keys may not be empty")]
    EmptyKey,
    #[error("the transaction holds {size} bytes, the limit is {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("no lease {}", .0.0)]
    LeaseNotFound(LeaseId),
    /// Refused before anything was written.
    #[error("no space left for the datastore: only deletions are accepted")]
    NoSpace,
    /// The write may or may not survive: the store could not make it durable and takes no more writes.
    #[error("the outcome of the write is unknown: {reason}")]
    OutcomeUnknown { reason: String },
    /// An earlier write failed that way; this one was not tried.
    #[error("the datastore takes no writes since a failure: {reason}")]
    Poisoned { reason: String },
    #[error("the datastore is closed")]
    Closed,
    #[error(transparent)]
    Read(#[from] ReadError),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    #[error("the revision has been compacted already (compact revision {compact_revision})")]
    Compacted { compact_revision: Revision },
    #[error("cannot compact a future revision (current revision {revision})")]
    FutureRevision { revision: Revision },
    #[error("recording the compaction")]
    Write(#[source] TxnError),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    #[error("no lease {}", .0.0)]
    NotFound(LeaseId),
    #[error("lease {} exists already", .0.0)]
    Exists(LeaseId),
    #[error("recording the lease")]
    Write(#[source] TxnError),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// History no longer reaches the revision asked for.
    #[error("the required revision has been compacted (history begins after revision {horizon})")]
    Compacted { horizon: Revision },
    /// The reader was too slow; everything up to its last batch was complete.
    #[error("the watch was cut off: its reader was too slow")]
    Lagging,
    #[error("the datastore is closed")]
    Closed,
    #[error(transparent)]
    Read(#[from] ReadError),
}
