//! Which files make up the store right now.

use std::sync::Arc;

use super::format::Link;
use super::segment::Segment;

pub(crate) struct Segments {
    pub(crate) base: Vec<Arc<Segment>>,
    /// Of `base`, file by file.
    pub(crate) base_lengths: Vec<u64>,
    pub(crate) log_start: Link,
    /// In order: sealed ones (their `end` is set), the one being written, perhaps an empty one.
    pub(crate) log: Vec<Arc<Segment>>,
}

impl Segments {
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.base.iter().chain(&self.log)
    }

    /// The log's segments that nothing more is written to.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.log.iter().take_while(|segment| segment.end.get().is_some())
    }

    pub(crate) fn next_id(&self) -> u32 {
        self.all().map(|segment| segment.id).max().unwrap_or(0) + 1
    }
}
