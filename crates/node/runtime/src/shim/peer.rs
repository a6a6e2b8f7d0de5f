//! A daemon's connection, as the shim has it: nothing here waits, and a daemon that does not read is cut off.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use cloudeck_linux::scm;

use crate::protocol::{FromShim, Inbox, Operation, Request, frame};

/// Messages that may wait for a daemon to read on. A daemon reads always; one that has let so many pile up is stuck, and
/// will ask for the whole state when it comes back.
const MAX_WAITING: usize = 256;

pub(super) struct Peer {
    pub(super) key: u64,
    pub(super) stream: UnixStream,
    inbox: Inbox,
    outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    closed: bool,
}

impl Peer {
    pub(super) fn new(key: u64, stream: UnixStream) -> Self {
        Self {
            key,
            stream,
            inbox: Inbox::default(),
            outbox: VecDeque::new(),
            closed: false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn has_output(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(super) fn send(&mut self, message: &FromShim) {
        self.send_with(message, Vec::new());
    }

    pub(super) fn send_with(&mut self, message: &FromShim, fds: Vec<OwnedFd>) {
        self.outbox.push_back((frame(message), fds));
        self.flush();
        self.closed |= self.outbox.len() > MAX_WAITING;
    }

    /// Sends what can be sent now.
    pub(super) fn flush(&mut self) {
        while let Some((bytes, fds)) = self.outbox.front_mut() {
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match scm::send(&self.stream, bytes, &borrowed) {
                Ok(sent) if sent == bytes.len() => {
                    self.outbox.pop_front();
                }
                Ok(sent) => {
                    bytes.drain(..sent);
                    fds.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
        self.outbox.shrink_to_fit();
    }

    /// The requests that have arrived, each with the descriptors that it announces.
    pub(super) fn receive(&mut self) -> Vec<(Request, Vec<OwnedFd>)> {
        let mut requests = Vec::new();
        match self.inbox.fill(&self.stream) {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => self.closed = true,
        }
        loop {
            match self.inbox.next::<Request>() {
                Ok(Some(request)) => {
                    let count = match &request.operation {
                        Operation::Exec(spec) => spec.streams.iter().filter(|present| **present).count(),
                        _ => 0,
                    };
                    let count = count.min(self.inbox.fds.len());
                    let fds = self.inbox.fds.drain(..count).collect();
                    requests.push((request, fds));
                }
                Ok(None) => return requests,
                Err(_) => {
                    self.closed = true;
                    return requests;
                }
            }
        }
    }
}

/// Sends over a socket that may wait.
pub(super) fn send_now(mut stream: &UnixStream, message: &FromShim) -> io::Result<()> {
    stream.write_all(&frame(message))
}
