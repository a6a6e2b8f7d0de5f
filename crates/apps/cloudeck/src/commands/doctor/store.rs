//! Is the datastore whole? And if not, what a repair salvages. Nobody may have it open.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cloudeck_engine::disk::{Disk, File, RealDisk};
use cloudeck_engine::{EmbeddedOptions, EmbeddedStore, OpenError, RepairReport};
use cloudeck_task::Scope;

use super::{Check, Verdict};

/// How long a store that was only looked at may take to close.
const CLOSING: Duration = Duration::from_secs(5);

/// Reads everything as a start would, and writes nothing.
pub(super) async fn check(directory: &Path) -> Option<Check> {
    const WHAT: &str = "datastore";
    if !directory.is_dir() {
        return None;
    }
    let scope = Scope::root("doctor");
    let disk = RealDisk::open(directory).map(|disk| Arc::new(ReadOnly(disk)));
    let opened = disk.map(|disk| EmbeddedStore::open_on(disk, EmbeddedOptions::default(), &scope).map(drop));
    // The store's lock goes with its last task.
    scope.shutdown(CLOSING).await;
    Some(match opened {
        Ok(Err(OpenError::Locked)) => Check::good(WHAT, "in use by this cluster"),
        Ok(Err(error)) if is_damage(&error) => Check::not(
            Verdict::Bad,
            WHAT,
            error.to_string(),
            "cloudeck doctor --repair (what is replaced stays beside it)",
        ),
        Ok(Err(OpenError::Io { action, source })) if !is_refusal(&source) => Check::not(
            Verdict::Bad,
            WHAT,
            format!("{action}: {source}"),
            "look at the disk: files cannot be read",
        ),
        Ok(_) => Check::good(WHAT, "whole"),
        Err(error) => Check::not(
            Verdict::Bad,
            WHAT,
            format!("{}: {error}", directory.display()),
            "run as root",
        ),
    })
}

fn is_damage(error: &OpenError) -> bool {
    match error {
        OpenError::Manifest { .. }
        | OpenError::NoManifest
        | OpenError::MissingSegment { .. }
        | OpenError::Corrupt { .. } => true,
        OpenError::Locked | OpenError::Io { .. } | OpenError::Threads(_) => false,
    }
}

/// Salvages what is intact of a damaged store; says so on the way. A whole one is left alone.
pub(super) async fn repair(directory: &Path) -> Result<()> {
    let found = check(directory).await;
    if !found.is_some_and(|check| check.verdict == Verdict::Bad) {
        eprintln!("the datastore needs no repair");
        return Ok(());
    }
    let report = cloudeck_engine::repair(directory, EmbeddedOptions::default().segment_bytes)
        .with_context(|| format!("repair {}", directory.display()))?;
    tell(&report);
    Ok(())
}

fn tell(report: &RepairReport) {
    eprintln!(
        "repaired: {} keys at revision {}",
        report.keys,
        report.revision.get()
    );
    for lost in &report.lost {
        eprintln!(
            "lost: {} bytes of segment {} at offset {}",
            lost.bytes, lost.segment, lost.offset
        );
    }
    for segment in &report.missing {
        eprintln!("lost: segment {segment}");
    }
    for file in &report.kept_aside {
        eprintln!("kept: {file}");
    }
}

/// A disk on which nothing can be changed.
struct ReadOnly<T>(T);

const REFUSAL: &str = "the doctor changes nothing";

fn refusal() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, REFUSAL)
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem && error.to_string() == REFUSAL
}

impl Disk for ReadOnly<RealDisk> {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock()
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn File>> {
        Err(refusal())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(ReadOnly(self.0.open(name)?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(refusal())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(refusal())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Err(refusal())
    }
}

impl File for ReadOnly<Arc<dyn File>> {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(refusal())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(refusal())
    }

    fn reserve(&self, _: u64) -> io::Result<()> {
        Err(refusal())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(refusal())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
        let files = std::fs::read_dir(directory).unwrap().flatten();
        files
            .map(|file| {
                let name = file.file_name().into_string().unwrap();
                (name, std::fs::read(file.path()).unwrap())
            })
            .collect()
    }

    #[tokio::test]
    async fn a_whole_store_is_left_as_it_is_and_a_damaged_one_is_found_and_repaired() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        assert!(check(&store).await.is_none());
        let scope = Scope::root("test");
        drop(EmbeddedStore::open(&store, EmbeddedOptions::default(), &scope).unwrap());
        scope.shutdown(CLOSING).await;
        let before = content(&store);
        assert_eq!(check(&store).await.unwrap().verdict, Verdict::Good);
        assert_eq!(content(&store), before);

        std::fs::write(store.join("MANIFEST"), b"rust").unwrap();
        let found = check(&store).await.unwrap();
        assert_eq!(found.verdict, Verdict::Bad, "{}", found.found);
        assert!(found.remedy.contains("--repair"), "{}", found.remedy);
        repair(&store).await.unwrap();
        assert_eq!(check(&store).await.unwrap().verdict, Verdict::Good);
    }
}
