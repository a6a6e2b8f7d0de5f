//! Images: pull, import, content store, snapshots.
