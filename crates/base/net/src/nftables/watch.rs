//! Hearing of tables that somebody removes.
#![allow(
    unsafe_code,
    reason = "registering a descriptor with the runtime is marked unsafe by tokio"
)]

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::namespace::NetNamespace;
use crate::netlink::{NetlinkError, NetlinkSocket, Protocol};

use super::{SUBSYSTEM, TABLE_NAME};

/// `NFNLGRP_NFTABLES`.
const NEWS: u32 = 7;

/// Hears of every table that is removed in a network namespace.
#[derive(Debug)]
pub struct NftWatch {
    socket: AsyncFd<NetlinkSocket>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableNews {
    /// A table was removed (and may have been made again since).
    Removed(String),
    /// There was more news than could be kept: anything may have happened.
    Missed,
}

impl NftWatch {
    /// Listens in `namespace`, or in that of the calling thread.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(namespace: Option<&NetNamespace>) -> Result<Self, NetlinkError> {
        let mut socket = match namespace {
            None => NetlinkSocket::open(Protocol::Netfilter)?,
            Some(namespace) => NetlinkSocket::open_in(namespace, Protocol::Netfilter)?,
        };
        socket.join(NEWS)?;
        // SAFETY: the descriptor is the socket's own: it stays open and the same as long as the socket lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(|_| NetlinkError::Open(Errno::BADF))?;
        Ok(Self { socket })
    }

    /// Waits for the next removals.
    ///
    /// # Cancel safety
    /// News is lost only when it is returned.
    pub async fn next(&mut self) -> Result<Vec<TableNews>, NetlinkError> {
        loop {
            // After a large batch there is news for milliseconds.
            tokio::task::consume_budget().await;
            let mut ready = self
                .socket
                .readable_mut()
                .await
                .map_err(|_| NetlinkError::Receive(Errno::BADF))?;
            let mut removed = Vec::new();
            let heard = ready.get_inner_mut().hear_now(|message| {
                if message.kind == SUBSYSTEM | libc::NFT_MSG_DELTABLE as u16 {
                    let (_, attributes) = message.split::<4>()?;
                    if let Some(name) = attributes.find(TABLE_NAME)? {
                        removed.push(TableNews::Removed(name.text()?.to_owned()));
                    }
                }
                Ok(())
            });
            match heard {
                Ok(true) => {}
                Ok(false) => ready.clear_ready(),
                Err(NetlinkError::Receive(Errno::NOBUFS)) => removed.push(TableNews::Missed),
                Err(error) => return Err(error),
            }
            if !removed.is_empty() {
                return Ok(removed);
            }
        }
    }

    /// Tells of removals that may concern a table, until it cannot hear any more: then a removed table is noticed only by
    /// who looks at it. One that waits to be read stands for all before it, so room for one does.
    pub async fn tell_of_removals(mut self, table: String, removals: mpsc::Sender<()>) {
        let concerned = |news: &TableNews| match news {
            TableNews::Removed(removed) => *removed == table,
            TableNews::Missed => true,
        };
        loop {
            match self.next().await {
                Ok(news) if news.iter().any(concerned) => drop(removals.try_send(())),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot hear any more of tables that are removed");
                    return;
                }
            }
        }
    }
}
