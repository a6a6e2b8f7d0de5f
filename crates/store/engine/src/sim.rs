//! A disk in memory that misbehaves on demand: for tests of whatever sits on [`Disk`].
//!
//! What was written is *volatile* until a sync. [`SimDisk::crash`] forgets a random choice of the volatile: single
//! sectors of single writes (so writes are torn and reordered), changes of length, the last renames and removals.
//! Faults: refuse space, fail reads, writes or syncs, stop dead at the n-th write, flip bits.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, File};

/// What a disk writes at once.
const SECTOR: usize = 512;

/// See the module. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// What the running system sees.
    names: BTreeMap<String, usize>,
    /// What survives a crash for certain.
    durable_names: BTreeMap<String, usize>,
    /// Name changes since the last sync of the directory, in order.
    pending_names: Vec<NameChange>,
    files: Vec<Content>,
    faults: Faults,
    /// Made so far.
    changes: u64,
    /// The machine has stopped; only a crash brings it back.
    stopped: bool,
    locked: bool,
    /// Raised by a crash: what was open before is of no use afterwards.
    generation: u64,
}

#[derive(Clone)]
enum NameChange {
    Set(String, usize),
    Remove(String),
}

#[derive(Default, Clone)]
struct Content {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Space held, whether written or not.
    held: u64,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// What goes wrong. Everything works by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Bytes that all files together may hold.
    pub capacity: Option<u64>,
    /// Changes (writes, syncs, creations, renames, …) that still work; the one after is done in part, and then
    /// everything fails as if the machine had stopped.
    pub changes_until_crash: Option<u64>,
    /// Syncs of files that still work; later ones fail, and what they should have made durable is lost.
    pub syncs_until_failure: Option<u64>,
    /// Writes fail with an input/output error.
    pub fail_writes: bool,
    /// So many writes find no space half-way, reserved or not, as on a file system that copies on write.
    pub full_writes: u64,
    /// Syncs of the directory fail.
    pub fail_dir_sync: bool,
}

/// A small generator (xorshift): the faults of a seed are the same every time.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `sides`, which is not zero.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

impl SimDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock_inner().faults = faults;
    }

    /// How many changes were made so far: where a crash can be placed.
    pub fn changes(&self) -> u64 {
        self.lock_inner().changes
    }

    /// Whether [`Faults::changes_until_crash`] has struck.
    pub fn has_stopped(&self) -> bool {
        self.lock_inner().stopped
    }

    /// The machine stops and starts again: a random part of what was not synced is gone, and so are faults, locks and
    /// open files.
    pub fn crash(&self, dice: &mut Dice) {
        let mut inner = self.lock_inner();
        let kept = dice.roll(inner.pending_names.len() as u64 + 1) as usize;
        let pending = std::mem::take(&mut inner.pending_names);
        pending
            .into_iter()
            .take(kept)
            .for_each(|change| change.apply(&mut inner.durable_names));
        inner.names = inner.durable_names.clone();
        inner.files.iter_mut().for_each(|content| content.crash(dice));
        inner.faults = Faults::default();
        inner.stopped = false;
        inner.locked = false;
        inner.generation += 1;
    }

    /// Flips bits of one byte, as a failing disk would.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        let mut inner = self.lock_inner();
        let index = inner.names[name];
        let content = &mut inner.files[index];
        for bytes in [&mut content.volatile, &mut content.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
            }
        }
    }

    /// What a file holds now.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let inner = self.lock_inner();
        inner
            .names
            .get(name)
            .map(|index| inner.files[*index].volatile.clone())
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, if the machine still runs.
    fn running(&self, generation: u64) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.lock_inner();
        if inner.stopped || inner.generation != generation {
            Err(stopped())
        } else {
            Ok(inner)
        }
    }

    fn handle(&self, index: usize, generation: u64) -> Arc<dyn File> {
        Arc::new(SimFile {
            disk: self.clone(),
            index,
            generation,
        })
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn broken() -> io::Error {
    io::Error::other("simulated input/output error")
}

impl Inner {
    /// Counts a change. True if the machine stops in the middle of it.
    fn stops_now(&mut self) -> bool {
        self.changes += 1;
        match &mut self.faults.changes_until_crash {
            Some(0) => self.stopped = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.stopped
    }

    fn rename_or_stop(&mut self, change: NameChange) -> io::Result<()> {
        if self.stops_now() {
            return Err(stopped());
        }
        change.clone().apply(&mut self.names);
        self.pending_names.push(change);
        Ok(())
    }

    /// Bytes that may still be held.
    fn free(&self) -> u64 {
        let held = self.names.values().map(|index| self.files[*index].held).sum();
        self.faults
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(held))
    }

    /// Holds space for a file up to `end`. Answers how far it reaches.
    fn hold(&mut self, index: usize, end: u64) -> u64 {
        let free = self.free();
        let held = &mut self.files[index].held;
        *held = (*held).max(end.min(held.saturating_add(free)));
        (*held).min(end)
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Set(name, index) => {
                names.insert(name, index);
            }
            Self::Remove(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.volatile);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        // All, nothing, or any sectors.
        let mood = dice.roll(4);
        for change in std::mem::take(&mut self.pending) {
            match change {
                Change::Write { offset, bytes } => {
                    for (offset, sector) in sectors(offset, &bytes) {
                        if mood == 1 || mood > 1 && dice.roll(2) == 0 {
                            Change::Write {
                                offset,
                                bytes: sector.to_vec(),
                            }
                            .apply(&mut self.durable);
                        }
                    }
                }
                length @ Change::Length(_) if dice.roll(2) == 0 => length.apply(&mut self.durable),
                Change::Length(_) => {}
            }
        }
        self.volatile = self.durable.clone();
        self.held = self.held.max(self.volatile.len() as u64);
    }
}

/// A write in pieces that do not cross a sector.
fn sectors(mut offset: usize, mut bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(SECTOR - offset % SECTOR));
        pieces.push((offset, piece));
        offset += piece.len();
        bytes = rest;
    }
    pieces
}

impl Change {
    fn apply(self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[offset..end].copy_from_slice(&bytes);
            }
            Self::Length(length) => to.resize(length, 0),
        }
    }
}

/// Gives the directory back, unless a crash did.
struct SimLock {
    disk: SimDisk,
    generation: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut inner = self.disk.lock_inner();
        if inner.generation == self.generation {
            inner.locked = false;
        }
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut inner = self.lock_inner();
        if std::mem::replace(&mut inner.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock {
            disk: self.clone(),
            generation: inner.generation,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let generation = self.lock_inner().generation;
        let mut inner = self.running(generation)?;
        if inner.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = inner.files.len();
        inner.files.push(Content::default());
        inner.rename_or_stop(NameChange::Set(name.to_owned(), index))?;
        drop(inner);
        Ok(self.handle(index, generation))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let generation = self.lock_inner().generation;
        let inner = self.running(generation)?;
        let index = *inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        drop(inner);
        Ok(self.handle(index, generation))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let generation = self.lock_inner().generation;
        Ok(self.running(generation)?.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let generation = self.lock_inner().generation;
        let mut inner = self.running(generation)?;
        let index = *inner.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        // At once, as journalling file systems do it.
        inner.rename_or_stop(NameChange::Set(to.to_owned(), index))?;
        let removal = NameChange::Remove(from.to_owned());
        removal.clone().apply(&mut inner.names);
        inner.pending_names.push(removal);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let generation = self.lock_inner().generation;
        let mut inner = self.running(generation)?;
        if !inner.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.rename_or_stop(NameChange::Remove(name.to_owned()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let generation = self.lock_inner().generation;
        let mut inner = self.running(generation)?;
        if inner.stops_now() {
            return Err(stopped());
        }
        if inner.faults.fail_dir_sync {
            return Err(broken());
        }
        let pending = std::mem::take(&mut inner.pending_names);
        for change in pending {
            change.apply(&mut inner.durable_names);
        }
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    index: usize,
    generation: u64,
}

impl File for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.running(self.generation)?;
        if inner.faults.fail_writes {
            return Err(broken());
        }
        let stops = inner.stops_now();
        let full = inner.faults.full_writes > 0;
        inner.faults.full_writes -= u64::from(full);
        let fits = inner
            .hold(self.index, offset + bytes.len() as u64)
            .saturating_sub(offset) as usize;
        let bytes_written = if stops || full {
            bytes.len() / 2
        } else {
            bytes.len().min(fits)
        };
        let write = Change::Write {
            offset: offset as usize,
            bytes: bytes[..bytes_written].to_vec(),
        };
        inner.files[self.index].change(write);
        match bytes_written {
            _ if stops => Err(stopped()),
            all if all == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.disk.running(self.generation)?;
        let content = &inner.files[self.index].volatile;
        let found = content.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.running(self.generation)?;
        if inner.stops_now() {
            return Err(stopped());
        }
        match &mut inner.faults.syncs_until_failure {
            Some(0) => {
                // As Linux does: the pages count as clean, what was in them never arrives.
                inner.files[self.index].pending.clear();
                return Err(broken());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        inner.files[self.index].sync();
        Ok(())
    }

    fn reserve(&self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.running(self.generation)?;
        if inner.stops_now() {
            return Err(stopped());
        }
        let before = inner.files[self.index].held;
        if inner.hold(self.index, length) < length {
            inner.files[self.index].held = before;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if (inner.files[self.index].volatile.len() as u64) < length {
            inner.files[self.index].change(Change::Length(length as usize));
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.disk.running(self.generation)?;
        if inner.stops_now() {
            return Err(stopped());
        }
        inner.files[self.index].change(Change::Length(length as usize));
        inner.files[self.index].held = length;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.running(self.generation)?.files[self.index]
            .volatile
            .len() as u64)
    }
}
