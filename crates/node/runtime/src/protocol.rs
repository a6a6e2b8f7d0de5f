//! What daemon and shim say to each other: frames of a length and JSON, descriptors attached to the first byte.
//!
//! The shim greets with [`FromShim::Hello`], which has its version: a daemon talks to every shim that is not newer than
//! itself. Kinds of messages and fields are only ever added. Inside, also what a container's process says to its shim
//! before it execs ([`FromInit`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use cloudeck_linux::scm;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Membership;
use crate::config::User;
use crate::error::StartError;
use crate::status::{ContainerId, ContainerState, Exit, RunsAs, SandboxId};

/// No frame is longer.
pub(crate) const MAX_FRAME: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Given back in the reply.
    pub(crate) id: u64,
    pub(crate) operation: Operation,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// → `State`.
    State,
    /// Sets up the container whose directory is there. → `Pid`.
    Create(CreateSpec),
    /// Lets it exec. → `Started`.
    Start {
        container: ContainerId,
    },
    /// Signals its first process. → `Done`.
    Kill {
        container: ContainerId,
        signal: i32,
    },
    /// Kills it if it runs (the end is noted), and forgets it once it has ended. → `Done`.
    Remove {
        container: ContainerId,
    },
    /// → `Pid`, with the terminal's master attached if one was asked for.
    Exec(ExecSpec),
    KillExec {
        exec: u64,
        signal: i32,
    },
    /// Ends the infra process: no container can be made any more. → `Done` when it has ended.
    Stop,
    /// The shim ends. → `Done`.
    Quit,
}

impl Operation {
    /// How many descriptors are attached to the reply when it is done as asked.
    pub(crate) fn descriptors_in_reply(&self) -> usize {
        match self {
            Self::Exec(spec) => usize::from(spec.terminal.is_some()),
            _ => 0,
        }
    }
}

/// As much of a container's configuration as the shim itself needs. The rest, which may be long, is read from its file by
/// the container's process alone: the shim stays small.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CreateSpec {
    pub(crate) container: ContainerId,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) membership: Membership,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    /// Chosen by the daemon, never twice.
    pub(crate) exec: u64,
    pub(crate) container: ContainerId,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) user: Option<User>,
    /// Columns and rows of a terminal.
    pub(crate) terminal: Option<(u16, u16)>,
    /// Which of the standard streams are attached, in their order.
    pub(crate) streams: [bool; 3],
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromShim {
    Hello {
        version: u32,
        sandbox: SandboxId,
        pid: i32,
        infra_pid: i32,
    },
    /// Instead of `Hello`, from a shim that could not set its sandbox up.
    Failed(String),
    Reply {
        id: u64,
        outcome: Outcome,
    },
    Exited {
        container: ContainerId,
        exit: Exit,
    },
    ExecExited {
        exec: u64,
        code: i32,
    },
    InfraExited,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Done,
    Pid {
        pid: i32,
        degraded: Vec<String>,
        #[serde(default)]
        user: Option<RunsAs>,
    },
    Started {
        at_ns: i64,
    },
    State {
        infra_alive: bool,
        containers: Vec<ContainerReport>,
    },
    Failed(Failure),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerReport {
    pub(crate) container: ContainerId,
    pub(crate) state: ContainerState,
    pub(crate) pid: i32,
    pub(crate) started_at_ns: i64,
    pub(crate) exit: Option<Exit>,
    pub(crate) degraded: Vec<String>,
    #[serde(default)]
    pub(crate) user: Option<RunsAs>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// What was asked for cannot be.
    Refused(String),
    /// The state does not allow it.
    State(String),
    Start(StartError),
}

/// From a container's or exec's process to the shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// All is set up; a terminal's master is attached if there is one. A container now waits to be told to go on.
    Ready {
        degraded: Vec<String>,
        #[serde(default)]
        user: Option<RunsAs>,
    },
    Failed(Failure),
}

/// A message as it goes over the stream.
pub(crate) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).expect("messages have string keys and write to memory");
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Bytes and descriptors that have arrived and are not yet a whole message.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Inbox {
    /// Takes in what has arrived: `Ok(false)` when the other side has closed.
    pub(crate) fn fill(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let mut buffer = [0; 2048];
        let got = scm::receive(socket, &mut buffer, &mut self.fds)?;
        self.bytes.extend_from_slice(&buffer[..got]);
        Ok(got > 0)
    }

    /// Whether no part of a message waits for its rest.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next whole message.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let message = serde_json::from_slice(&rest[..length]);
        if rest.len() == length {
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..4 + length);
        }
        message
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Sends one whole message over a socket that may wait.
pub(crate) fn send_packet<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    scm::send(socket, &bytes, fds).map(drop)
}

/// Receives one whole message over a socket of packets; `None` when the other side has closed.
pub(crate) fn receive_packet<T: DeserializeOwned>(
    socket: impl AsFd,
    fds: &mut Vec<OwnedFd>,
) -> io::Result<Option<T>> {
    let mut buffer = vec![0; 4096];
    let got = scm::receive(socket, &mut buffer, fds)?;
    if got == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[..got]);
    message
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_survive_being_cut_anywhere() {
        let (a, b) = UnixStream::pair().unwrap();
        let both = [
            frame(&FromShim::InfraExited),
            frame(&FromShim::ExecExited { exec: 7, code: 3 }),
        ]
        .concat();
        let mut inbox = Inbox::default();
        let mut seen = 0;
        for byte in both {
            scm::send(&a, &[byte], &[]).unwrap();
            assert!(inbox.fill(&b).unwrap());
            while let Some(message) = inbox.next::<FromShim>().unwrap() {
                match (seen, message) {
                    (0, FromShim::InfraExited) | (1, FromShim::ExecExited { exec: 7, code: 3 }) => seen += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(seen, 2);
    }

    #[test]
    fn an_absurd_length_is_an_error_not_an_allocation() {
        let (a, b) = UnixStream::pair().unwrap();
        scm::send(&a, &u32::MAX.to_le_bytes(), &[]).unwrap();
        let mut inbox = Inbox::default();
        inbox.fill(&b).unwrap();
        assert!(inbox.next::<FromShim>().is_err());
    }
}
