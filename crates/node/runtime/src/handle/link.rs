//! The connection to one shim: requests out, replies and news in.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cloudeck_linux::scm;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::lock;
use crate::protocol::{FromShim, Inbox, Operation, Outcome, Request, frame};

/// Requests that may wait for the shim to take them; more make their callers wait.
const QUEUE: usize = 64;

type Answer = (Outcome, Vec<OwnedFd>);

/// The shim is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// The asking end. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    queue: mpsc::Sender<(Vec<u8>, Vec<OwnedFd>)>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Waiting>>,
    execs: Mutex<HashMap<u64, oneshot::Sender<i32>>>,
}

/// Who waits for a reply.
struct Waiting {
    answer: oneshot::Sender<Answer>,
    /// How many descriptors come with the reply, should it be a good one.
    descriptors: usize,
}

/// The end that talks to the shim, to be run as a task.
pub(super) struct Wire {
    stream: UnixStream,
    inbox: Inbox,
    queue: mpsc::Receiver<(Vec<u8>, Vec<OwnedFd>)>,
    shared: Arc<Shared>,
}

/// Makes both ends, over a connection on which the shim has greeted.
pub(super) fn over(stream: UnixStream, inbox: Inbox) -> (Link, Wire) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let shared = Arc::new(Shared::default());
    (
        Link {
            queue: sender,
            shared: Arc::clone(&shared),
        },
        Wire {
            stream,
            inbox,
            queue,
            shared,
        },
    )
}

impl Link {
    /// Asks and waits for the answer.
    pub(super) async fn ask(&self, operation: Operation) -> Result<Answer, Gone> {
        self.ask_with(operation, Vec::new()).await
    }

    pub(super) async fn ask_with(&self, operation: Operation, fds: Vec<OwnedFd>) -> Result<Answer, Gone> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting {
            answer: sender,
            descriptors: operation.descriptors_in_reply(),
        };
        lock(&self.shared.waiting).insert(id, waiting);
        let sent = self.queue.send((frame(&Request { id, operation }), fds)).await;
        if sent.is_err() {
            lock(&self.shared.waiting).remove(&id);
            return Err(Gone);
        }
        answer.await.map_err(|_| Gone)
    }

    /// Will tell the end of the exec of that number; to be called before it is asked for.
    pub(super) fn expect_exec(&self, exec: u64) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.shared.execs).insert(exec, sender);
        receiver
    }

    pub(super) fn forget_exec(&self, exec: u64) {
        lock(&self.shared.execs).remove(&exec);
    }
}

impl Wire {
    /// Carries messages until the shim is gone; hands news to `news`.
    pub(super) async fn run(mut self, mut news: impl FnMut(FromShim)) {
        loop {
            tokio::select! {
                ready = self.stream.readable() => {
                    if ready.is_err() || !self.receive(&mut news) {
                        break;
                    }
                }
                Some((bytes, fds)) = self.queue.recv() => {
                    if self.send(bytes, fds).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.queue.close();
        lock(&self.shared.waiting).clear();
        lock(&self.shared.execs).clear();
    }

    fn receive(&mut self, news: &mut impl FnMut(FromShim)) -> bool {
        let Self { stream, inbox, .. } = self;
        match stream.try_io(Interest::READABLE, || inbox.fill(stream.as_fd())) {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            _ => return false,
        }
        loop {
            match self.inbox.next::<FromShim>() {
                Ok(Some(FromShim::Reply { id, outcome })) => self.reply(id, outcome),
                Ok(Some(FromShim::ExecExited { exec, code })) => {
                    if let Some(waiter) = lock(&self.shared.execs).remove(&exec) {
                        let _ = waiter.send(code);
                    }
                }
                Ok(Some(other)) => news(other),
                Ok(None) => {
                    if self.inbox.is_empty() {
                        // Descriptors come with the first byte of their message: these are of one that has been dealt
                        // with: a shim may have attached a terminal to bad news.
                        self.inbox.fds.clear();
                    }
                    return true;
                }
                Err(_) => return false,
            }
        }
    }

    /// Hands on a reply with the descriptors that are its own: those behind them belong to replies that come later.
    fn reply(&mut self, id: u64, outcome: Outcome) {
        let Some(waiting) = lock(&self.shared.waiting).remove(&id) else {
            return;
        };
        let count = match outcome {
            Outcome::Failed(_) => 0,
            _ => waiting.descriptors.min(self.inbox.fds.len()),
        };
        let fds = self.inbox.fds.drain(..count).collect();
        let _ = waiting.answer.send((outcome, fds));
    }

    async fn send(&mut self, bytes: Vec<u8>, mut fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.stream.writable().await?;
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            let stream = &self.stream;
            match stream.try_io(Interest::WRITABLE, || scm::send(stream.as_fd(), rest, &borrowed)) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    drop(borrowed);
                    fds.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
