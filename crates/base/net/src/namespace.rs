//! Network namespaces: holding one open, and doing something inside it.
#![allow(unsafe_code, reason = "unshare(2) is marked unsafe by rustix")]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cloudeck_linux::memory::Stocked;
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace that stays alive as long as this value does.
#[derive(Debug)]
pub struct NetNamespace {
    fd: OwnedFd,
}

/// Why a network namespace could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The file that stands for the namespace could not be opened.
    #[error("open network namespace {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// No thread could be started to enter the namespace with.
    #[error("start a thread for a network namespace")]
    Thread(#[source] std::io::Error),
    /// The kernel did not let the thread in.
    #[error("enter a network namespace")]
    Enter(#[source] Errno),
    /// The kernel did not make one.
    #[error("create a network namespace")]
    Create(#[source] Errno),
}

impl NetNamespace {
    /// Opens the namespace that `path` stands for: an nsfs bind mount or `/proc/PID/ns/net`.
    pub fn open(path: &Path) -> Result<Self, NamespaceError> {
        let file = File::open(path).map_err(|source| NamespaceError::Open {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { fd: file.into() })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NamespaceError> {
        Self::open(Path::new(CURRENT))
    }

    /// Makes a new one, with a loopback device that is down. It ends with the last thing that holds it.
    pub fn create() -> Result<Self, NamespaceError> {
        on_own_thread(|| {
            // SAFETY: only the network namespace of this short-lived thread changes; no file descriptor or memory does.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(NamespaceError::Create)?;
            Self::current()
        })?
    }

    /// Runs `action` on a thread of its own inside this namespace and waits for it.
    ///
    /// Sockets stay in the namespace that they were opened in, so a socket may be returned from here and used anywhere.
    ///
    /// # Panics
    /// When `action` panics.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        on_own_thread(|| {
            move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(NamespaceError::Enter)?;
            Ok(action())
        })?
    }
}

impl AsFd for NetNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn on_own_thread<T: Send>(action: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, || {
                let _last = GiveBack;
                action()
            })
            .map_err(NamespaceError::Thread)?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The thread ends next, and its stock of small blocks would be lost with it: one such thread for each pod that comes
/// or goes. Dropped also when the action panics.
struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        Stocked::give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Stocked = Stocked;

    /// Bytes in use, those in any thread's stock among them.
    fn in_use() -> usize {
        // SAFETY: mallinfo2 locks the arenas itself and may be called at any time.
        unsafe { libc::mallinfo2() }.uordblks
    }

    #[test]
    fn a_thread_leaves_no_small_blocks_behind() {
        const THREADS: usize = 500;
        const BLOCKS: usize = 200;
        const BLOCK_BYTES: usize = 64;
        let freed_on_it = || on_own_thread(|| drop(vec![Box::new([0_u8; BLOCK_BYTES]); BLOCKS])).unwrap();
        freed_on_it();
        let before = in_use();
        (0..THREADS).for_each(|_| freed_on_it());
        // Other tests run beside this one, and have far less.
        let lost = in_use().saturating_sub(before);
        assert!(lost < THREADS * BLOCKS * BLOCK_BYTES / 4, "{lost} bytes lost");
    }
}
