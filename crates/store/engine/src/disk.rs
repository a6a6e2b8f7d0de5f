//! The seam to files: one flat directory.
//!
//! Everything the engine does to a disk goes through these two traits; [`RealDisk`] does it,
//! [`SimDisk`](crate::sim::SimDisk) does it with faults.

mod real;

use std::io;
use std::sync::Arc;

pub use real::RealDisk;

/// A directory.
pub trait Disk: Send + Sync + 'static {
    /// Takes the directory for this holder alone, until the answer is dropped. `WouldBlock` if somebody has it.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;

    /// Makes a new file for reading and writing. Its name is durable after [`Disk::sync_dir`].
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Names of the files there are, in no order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Replaces `to`, if it exists, at once. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes the name away; open files stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file.
pub trait File: Send + Sync + 'static {
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills all of `buffer`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Makes the content and the length durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the file at least `length` bytes long, the new ones zero, and holds the space for them.
    fn reserve(&self, length: u64) -> io::Result<()>;

    fn set_len(&self, length: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
