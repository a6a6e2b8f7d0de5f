//! What can go wrong.

use cloudeck_net::NetlinkError;

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyStartError {
    /// No socket to the kernel.
    #[error("open the service proxy's netlink sockets")]
    Socket(#[source] NetlinkError),
}

/// Why a change could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyApplyError {
    /// The whole table.
    #[error("install the table {table}")]
    Table {
        /// Its name.
        table: String,
        /// Why not.
        source: NetlinkError,
    },
    /// A part of it.
    #[error("change the table {table}")]
    Change {
        /// Its name.
        table: String,
        /// Why not.
        source: NetlinkError,
    },
    /// Whether the table is there.
    #[error("look for the table {table}")]
    Look {
        /// Its name.
        table: String,
        /// Why not.
        source: NetlinkError,
    },
    /// Connections that lead to endpoints which are gone.
    #[error("forget tracked connections")]
    Forget(#[source] NetlinkError),
    /// Clients that stick to endpoints which are gone.
    #[error("forget sticky clients")]
    Unstick(#[source] NetlinkError),
    /// Removal of everything.
    #[error("remove the table {table}")]
    Purge {
        /// Its name.
        table: String,
        /// Why not.
        source: NetlinkError,
    },
}
