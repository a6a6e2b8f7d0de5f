//! Netlink sockets: send requests, read acknowledgements and dumps.
#![allow(
    unsafe_code,
    reason = "setsockopt(2) at level SOL_NETLINK has no wrapper in rustix"
)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use crate::module::when_loaded;
use crate::namespace::{NamespaceError, NetNamespace};

mod attribute;
mod message;
#[cfg(test)]
mod tests;

pub use attribute::{Attribute, AttributeWriter, Attributes};
pub use message::{Message, Messages, ParseError, Requests, Sequenced};

/// An answer fits: dumps come in pieces of at most 32 kB, and acknowledgements are capped.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// Kernel-side queue lengths: a batch of 10,000 services is 5 MB, and a failed batch reports each failed message.
const SEND_QUEUE_BYTES: usize = 32 * 1024 * 1024;
const RECEIVE_QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// The kernel answers before `sendmsg` returns; waiting longer than this means that an answer was lost.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// The kernel's part that a socket speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// A netlink socket. Its requests block, for microseconds: the kernel works them off inside `sendmsg`.
#[derive(Debug)]
pub struct NetlinkSocket {
    fd: OwnedFd,
    next_sequence: u32,
    buffer: Vec<u8>,
}

/// Why a request had no success.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be made.
    #[error("open a netlink socket")]
    Open(#[source] Errno),
    /// The namespace for the socket could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The request did not get through.
    #[error("send a netlink request")]
    Send(#[source] Errno),
    /// No answer came.
    #[error("receive a netlink answer")]
    Receive(#[source] Errno),
    /// The kernel refused the request.
    #[error("the kernel refused message {index} of a netlink request: {errno}{}", detail_suffix(detail.as_deref()))]
    Refused {
        /// Which message of the request, counted from 0.
        index: usize,
        /// The reason.
        errno: Errno,
        /// The kernel's own words, where it has some.
        detail: Option<String>,
    },
    /// The answer makes no sense.
    #[error(transparent)]
    Malformed(#[from] ParseError),
}

fn detail_suffix(detail: Option<&str>) -> String {
    detail.map(|text| format!(" ({text})")).unwrap_or_default()
}

impl NetlinkError {
    /// The reason of a refusal.
    pub fn refusal(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

impl NetlinkSocket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        let number = match protocol {
            // Number 0.
            Protocol::Route => None,
            Protocol::Netfilter => Some(rustix::net::netlink::NETFILTER),
        };
        let make = || {
            rustix::net::socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                number,
            )
        };
        let fd = when_loaded(|errno| *errno == Errno::PROTONOSUPPORT, make).map_err(NetlinkError::Open)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0)).map_err(NetlinkError::Open)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_DEADLINE))
            .map_err(NetlinkError::Open)?;
        // Without CAP_NET_ADMIN in the first user namespace only the default queue lengths are to be had: they do for
        // everything but huge batches, and those then fail with a clear ENOBUFS.
        let _ = sockopt::set_socket_send_buffer_size_force(&fd, SEND_QUEUE_BYTES);
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_QUEUE_BYTES);
        // Without these, errors are only less well explained.
        let _ = set_netlink_option(&fd, libc::NETLINK_EXT_ACK, 1);
        let _ = set_netlink_option(&fd, libc::NETLINK_CAP_ACK, 1);
        Ok(Self {
            fd,
            next_sequence: 1,
            buffer: vec![0; RECEIVE_BUFFER_BYTES],
        })
    }

    /// Opens a socket in another network namespace.
    pub fn open_in(namespace: &NetNamespace, protocol: Protocol) -> Result<Self, NetlinkError> {
        namespace.run(|| Self::open(protocol))?
    }

    /// Sends independent requests in one go, each acknowledged; returns each one's outcome.
    ///
    /// The outer error means that the outcomes are unknown.
    pub fn execute_each(
        &mut self,
        requests: Requests,
    ) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let sent = self.send(requests.acknowledged())?;
        let mut outcomes: Vec<Option<Result<(), NetlinkError>>> = (0..sent.count).map(|_| None).collect();
        while outcomes.iter().any(Option::is_none) {
            self.receive(RecvFlags::empty(), |message| {
                if let (Some(index), Some(answer)) =
                    (sent.index_of(message.sequence), message.acknowledgement()?)
                {
                    outcomes[index] = Some(answer.into_result(index));
                }
                Ok(())
            })?;
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Sends requests in one go; the first refusal is the result (the requests after it may have been done).
    pub fn execute(&mut self, requests: Requests) -> Result<(), NetlinkError> {
        self.execute_each(requests)?.into_iter().collect()
    }

    /// Sends a request for many answers and hands each to `each`.
    pub fn dump(
        &mut self,
        request: Requests,
        each: impl FnMut(&Message<'_>) -> Result<(), ParseError>,
    ) -> Result<(), NetlinkError> {
        self.ask(request.dumping(), false, each)
    }

    /// Sends a request for one thing and hands it to `each`.
    pub fn get(
        &mut self,
        request: Requests,
        each: impl FnMut(&Message<'_>) -> Result<(), ParseError>,
    ) -> Result<(), NetlinkError> {
        self.ask(request.acknowledged(), false, each)
    }

    /// Like [`NetlinkSocket::get`] on a socket that hears news: those that arrive before, between and after the answer
    /// and its acknowledgement are handed over as well, in the kernel's order.
    pub fn get_amid_news(
        &mut self,
        request: Requests,
        each: impl FnMut(&Message<'_>) -> Result<(), ParseError>,
    ) -> Result<(), NetlinkError> {
        self.ask(request.acknowledged(), true, each)
    }

    fn ask(
        &mut self,
        request: Requests,
        with_news: bool,
        mut each: impl FnMut(&Message<'_>) -> Result<(), ParseError>,
    ) -> Result<(), NetlinkError> {
        let sent = self.send(request)?;
        let mut done = false;
        let mut refusal = None;
        while !done {
            self.receive(RecvFlags::empty(), |message| {
                if sent.index_of(message.sequence).is_none() {
                    return if with_news { each(message) } else { Ok(()) };
                }
                if message.is_done() {
                    done = true;
                } else if let Some(answer) = message.acknowledgement()? {
                    done = true;
                    refusal = answer.into_result(0).err();
                } else {
                    each(message)?;
                }
                Ok(())
            })?;
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Sends messages that the kernel takes or refuses as a whole, only the message `last` being acknowledged
    /// (nfnetlink batches); returns the first refusal.
    pub fn transact(&mut self, batch: Requests, last: usize) -> Result<(), NetlinkError> {
        let sent = self.send(batch.acknowledged_at(last))?;
        let mut refusal: Option<NetlinkError> = None;
        let mut answered = false;
        let mut look = |message: &Message<'_>| {
            if let (Some(index), Some(answer)) = (sent.index_of(message.sequence), message.acknowledgement()?)
            {
                // A refusal of the batch itself (index 0) is the only answer then.
                answered |= index == last || (index == 0 && answer.errno.is_some());
                if refusal.is_none() {
                    refusal = answer.into_result(index).err();
                }
            }
            Ok(())
        };
        self.receive(RecvFlags::empty(), &mut look)?;
        while self.receive(RecvFlags::DONTWAIT, &mut look)? {}
        if !answered && refusal.is_none() {
            return Err(NetlinkError::Receive(Errno::NODATA));
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Lets the kernel tell this socket of changes of a kind (`RTNLGRP_*`), to be read with [`NetlinkSocket::hear`].
    pub fn join(&mut self, group: u32) -> Result<(), NetlinkError> {
        set_netlink_option(&self.fd, libc::NETLINK_ADD_MEMBERSHIP, group as libc::c_int)
            .map_err(NetlinkError::Open)
    }

    /// Waits for news, or five seconds, and hands them to `each`.
    pub fn hear(
        &mut self,
        each: impl FnMut(&Message<'_>) -> Result<(), ParseError>,
    ) -> Result<(), NetlinkError> {
        self.receive(RecvFlags::empty(), each).map(|_| ())
    }

    /// Hands the news that are there to `each`, without waiting. `false` when there are none.
    pub fn hear_now(
        &mut self,
        each: impl FnMut(&Message<'_>) -> Result<(), ParseError>,
    ) -> Result<bool, NetlinkError> {
        self.receive(RecvFlags::DONTWAIT, each)
    }

    fn send(&mut self, requests: Requests) -> Result<Sequenced, NetlinkError> {
        let (bytes, sequenced) = requests.numbered(self.next_sequence);
        self.next_sequence = self.next_sequence.wrapping_add(sequenced.count as u32).max(1);
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, &bytes, SendFlags::empty()))
            .map_err(NetlinkError::Send)?;
        Ok(sequenced)
    }

    /// Reads one datagram of messages. `false` when there was none and the flags said not to wait.
    fn receive(
        &mut self,
        flags: RecvFlags,
        mut each: impl FnMut(&Message<'_>) -> Result<(), ParseError>,
    ) -> Result<bool, NetlinkError> {
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), flags | RecvFlags::TRUNC)
        });
        let length = match received {
            Ok((_, length)) => length,
            Err(Errno::AGAIN) if flags.contains(RecvFlags::DONTWAIT) => return Ok(false),
            Err(errno) => return Err(NetlinkError::Receive(errno)),
        };
        let bytes = self
            .buffer
            .get(..length)
            .ok_or(NetlinkError::Receive(Errno::MSGSIZE))?;
        for message in Messages::new(bytes) {
            each(&message?)?;
        }
        Ok(true)
    }
}

impl AsRawFd for NetlinkSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn set_netlink_option(fd: &OwnedFd, option: libc::c_int, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the pointer and length describe `value`, which outlives the call; the descriptor is open.
    let outcome = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if outcome == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
}
