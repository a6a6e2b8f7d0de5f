//! Downloads a blob: hashed while it arrives, resumed where the connection broke.

use std::sync::Arc;

use bytes::Bytes;
use cloudeck_oci::{Descriptor, Digest};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::http::{HttpError, STALL_TIMEOUT};
use super::{Registry, RegistryError};
use crate::blobs::{BlobError, Blobs, StagedBlob};
use crate::index::FileLock;

/// Pieces of a body waiting for the disk. A piece is at most some 400 KiB in hyper, mostly 16.
const PIECES_WAITING: usize = 16;
/// However often a connection breaks after some progress, it ends some time.
const RESUMES_MAX: u32 = 32;

/// Why a blob did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Blob(#[from] BlobError),
}

enum Piece {
    Append(Bytes),
    Restart,
    Finish,
}

/// Hashes and writes on a thread of its own, since both may take their time.
struct Writer {
    pieces: mpsc::Sender<Piece>,
    task: tokio::task::JoinHandle<Result<Option<StagedBlob>, BlobError>>,
}

impl Registry {
    /// Downloads a blob whose digest and size are known. `progress` is told how many bytes more have arrived (or, on a
    /// new start, how many were in vain).
    ///
    /// Cancel safety: dropped, it leaves nothing.
    pub(crate) async fn download(
        &self,
        blobs: &Blobs,
        descriptor: &Descriptor,
        progress: &(dyn Fn(i64) + Send + Sync),
        content: &Arc<FileLock>,
    ) -> Result<StagedBlob, DownloadError> {
        let (digest, size) = (&descriptor.digest, descriptor.size);
        let writer = Writer::start(blobs, Arc::clone(content))?;
        let mut received = 0;
        let (mut fruitless, mut resumes) = (0, 0);
        while received < size || resumes == 0 {
            let before = received;
            let error = match self.stream(&writer, digest, size, &mut received, progress).await {
                Ok(()) if received == size => break,
                Ok(()) => RegistryError::Incomplete {
                    received,
                    expected: size,
                },
                Err(DownloadError::Registry(error)) => error,
                Err(DownloadError::Blob(BlobError::Stopped)) => return Err(writer.failure().await.into()),
                Err(other) => return Err(other),
            };
            fruitless = if received > before { 0 } else { fruitless + 1 };
            resumes += 1;
            if !error.is_transient() || fruitless > self.retries() || resumes > RESUMES_MAX {
                return Err(error.into());
            }
            self.pause(fruitless, &error).await;
        }
        Ok(writer.finish().await?.verify(digest, size)?)
    }

    /// One request: from where the last one broke to its end.
    async fn stream(
        &self,
        writer: &Writer,
        digest: &Digest,
        size: u64,
        received: &mut u64,
        progress: &(dyn Fn(i64) + Send + Sync),
    ) -> Result<(), DownloadError> {
        let (mut body, start) = self.blob(digest, *received).await?;
        if start != *received {
            writer.send(Piece::Restart).await?;
            progress(-(*received as i64));
            *received = 0;
        }
        let host = || self.authority.clone();
        loop {
            let frame = match timeout(STALL_TIMEOUT, body.frame()).await {
                Err(_) => return Err(RegistryError::from(HttpError::TimedOut(host())).into()),
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => frame
                    .map_err(|source| RegistryError::from(HttpError::Exchange { host: host(), source }))?,
            };
            let Ok(data) = frame.into_data() else { continue };
            *received += data.len() as u64;
            if *received > size {
                return Err(BlobError::Size {
                    expected: size,
                    found: *received,
                }
                .into());
            }
            progress(data.len() as i64);
            writer.send(Piece::Append(data)).await?;
        }
    }
}

impl Writer {
    fn start(blobs: &Blobs, content: Arc<FileLock>) -> Result<Self, BlobError> {
        let mut blob = blobs.writer()?;
        let (pieces, mut waiting) = mpsc::channel(PIECES_WAITING);
        let task = tokio::task::spawn_blocking(move || {
            let _content = content;
            while let Some(piece) = waiting.blocking_recv() {
                match piece {
                    Piece::Append(data) => blob.append(&data)?,
                    Piece::Restart => blob.restart()?,
                    Piece::Finish => return Ok(Some(blob.finish())),
                }
            }
            // The download was given up: the temporary file goes with the writer.
            Ok(None)
        });
        Ok(Self { pieces, task })
    }

    /// Fails only if writing failed, which [`Writer::failure`] reports in detail.
    async fn send(&self, piece: Piece) -> Result<(), BlobError> {
        self.pieces.send(piece).await.map_err(|_| BlobError::Stopped)
    }

    async fn finish(self) -> Result<StagedBlob, BlobError> {
        // An error here means that the task ended with one of its own.
        let _ = self.pieces.send(Piece::Finish).await;
        match self.task.await {
            Ok(outcome) => outcome?.ok_or(BlobError::Stopped),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and with it whoever waits here.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }

    /// Why the task takes no more pieces.
    async fn failure(self) -> BlobError {
        self.finish().await.err().unwrap_or(BlobError::Stopped)
    }
}
