//! A log as a stream of chunks, to its end or as long as the container lives.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::inotify;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::tail::start_of_last;
use super::{LogOptions, OpenLogError, Renderer};

/// What one chunk holds at most, before rendering.
const CHUNK: usize = 64 * 1024;

/// Reads one log file.
pub(crate) struct LogStream {
    file: File,
    path: PathBuf,
    position: u64,
    pending: Vec<u8>,
    renderer: Renderer,
    /// Turns true when the container has ended and its log is complete; `None` when not following.
    ended: Option<watch::Receiver<bool>>,
    changes: Option<pipe::Receiver>,
}

impl LogStream {
    /// Opens a log. `ended` turns true when nothing more will be written.
    pub(crate) fn open(
        path: &Path,
        options: LogOptions,
        ended: watch::Receiver<bool>,
    ) -> Result<Self, OpenLogError> {
        let open = |source| OpenLogError::Open {
            path: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(open)?;
        let changes = if options.follow {
            Some(watch_file(path).map_err(open)?)
        } else {
            None
        };
        let position = match options.tail_lines {
            Some(lines) => start_of_last(&file, lines).map_err(open)?,
            None => 0,
        };
        let ended = options.follow.then_some(ended);
        Ok(Self {
            file,
            path: path.to_owned(),
            position,
            pending: Vec::new(),
            renderer: Renderer::new(options),
            ended,
            changes,
        })
    }

    /// The next chunk; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.renderer.is_full() {
                return Ok(None);
            }
            // Asked before reading: what was written before the end is then read below.
            let complete = self.ended.as_ref().is_none_or(|ended| *ended.borrow());
            let mut out = Vec::new();
            let read = self.read(&mut out)?;
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
            if read == 0 {
                if complete {
                    return Ok(None);
                }
                self.wait().await?;
            }
        }
    }

    fn read(&mut self, out: &mut Vec<u8>) -> io::Result<usize> {
        let mut buffer = vec![0; CHUNK];
        let read = self.file.read_at(&mut buffer, self.position)?;
        self.position += read as u64;
        self.pending.extend_from_slice(&buffer[..read]);
        let complete = self
            .pending
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in self.pending[..complete].split_inclusive(|byte| *byte == b'\n') {
            self.renderer.render(line, out);
        }
        self.pending.drain(..complete);
        Ok(read)
    }

    async fn wait(&mut self) -> io::Result<()> {
        let (Some(changes), Some(ended)) = (&mut self.changes, &mut self.ended) else {
            return Ok(());
        };
        tokio::select! {
            ready = changes.readable() => {
                ready?;
                drain(changes);
                // A file that was removed grows no more.
                if !self.path.exists() {
                    self.ended = None;
                }
            }
            changed = ended.changed() => {
                if changed.is_err() {
                    self.ended = None;
                }
            }
        }
        Ok(())
    }
}

/// An inotify queue reads as a pipe does.
fn watch_file(path: &Path) -> io::Result<pipe::Receiver> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let wanted = inotify::WatchFlags::MODIFY | inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::ATTRIB;
    inotify::add_watch(&fd, path, wanted)?;
    pipe::Receiver::from_owned_fd_unchecked(fd)
}

/// Empties the queue of events: that something happened is all that matters.
fn drain(queue: &pipe::Receiver) {
    let mut buffer = [0_u8; 4096];
    while queue.try_read(&mut buffer).is_ok_and(|read| read > 0) {}
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn following_sees_what_is_written_later_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut file = File::create(&path).unwrap();
        writeln!(file, "2026-01-01T00:00:00Z stdout F one").unwrap();
        let (end, ended) = watch::channel(false);
        let mut log = LogStream::open(
            &path,
            LogOptions {
                follow: true,
                ..LogOptions::default()
            },
            ended,
        )
        .unwrap();
        assert_eq!(log.next().await.unwrap().unwrap(), "one\n");
        let (chunk, ()) = tokio::join!(log.next(), async {
            writeln!(file, "2026-01-01T00:00:00Z stdout F two").unwrap();
        });
        assert_eq!(chunk.unwrap().unwrap(), "two\n");
        end.send_replace(true);
        assert!(log.next().await.unwrap().is_none());
    }
}
