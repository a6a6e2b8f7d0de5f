//! The server's handle.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};

use cloudeck_net::{NamespaceError, NetNamespace};
use cloudeck_task::Scope;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use crate::config::DnsConfig;
use crate::forward::Forwarder;
use crate::server::{self, Shared};
use crate::zone::Zone;

/// With port 0, TCP chooses; UDP may have that port in use, so several are tried.
const PORT_ATTEMPTS: usize = 16;

/// A running server. Cheap to clone; clones are the same server.
#[derive(Clone)]
pub struct Dns {
    shared: Arc<Shared>,
    address: SocketAddr,
    ready: Arc<watch::Sender<bool>>,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum DnsStartError {
    /// The address cannot be had.
    #[error("listen for DNS on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl Dns {
    /// Listens, and starts to answer: at first only for the rest of the world.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: DnsConfig, scope: &Scope) -> Result<Self, DnsStartError> {
        let (udp, tcp) = within(config.namespace.as_deref(), || bind(config.listen))?.map_err(|source| {
            DnsStartError::Listen {
                address: config.listen,
                source,
            }
        })?;
        let listening = |source| DnsStartError::Listen {
            address: config.listen,
            source,
        };
        let address = tcp.local_addr().map_err(listening)?;
        let udp = UdpSocket::from_std(udp).map_err(listening)?;
        let tcp = TcpListener::from_std(tcp).map_err(listening)?;
        let zone = Zone::new(&config.cluster_domain, config.service_ip);
        let own = [address.ip(), IpAddr::V4(config.service_ip)];
        let forwarder = Forwarder::new(config.upstream, own, config.namespace);
        let shared = Arc::new(Shared::new(zone, forwarder, config.clients));
        let datagrams = server::serve_datagrams(Arc::clone(&shared), Arc::new(udp), scope.clone());
        scope.spawn_until_shutdown("dns-datagrams", datagrams);
        let streams = server::serve_streams(Arc::clone(&shared), tcp, scope.clone());
        scope.spawn_until_shutdown("dns-streams", streams);
        Ok(Self {
            shared,
            address,
            ready: Arc::new(watch::Sender::new(false)),
        })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when all Services that exist have their names.
    pub async fn ready(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    pub(crate) fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    /// The names, to change them.
    pub(crate) fn zone(&self) -> RwLockWriteGuard<'_, Zone> {
        self.shared.zone.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn within<T: Send>(
    namespace: Option<&NetNamespace>,
    open: impl FnOnce() -> T + Send,
) -> Result<T, NamespaceError> {
    match namespace {
        None => Ok(open()),
        Some(namespace) => namespace.run(open),
    }
}

fn bind(address: SocketAddr) -> std::io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    let mut attempt = 1;
    loop {
        let tcp = std::net::TcpListener::bind(address)?;
        match std::net::UdpSocket::bind(tcp.local_addr()?) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && address.port() == 0
                    && attempt < PORT_ATTEMPTS =>
            {
                attempt += 1;
            }
            udp => {
                let udp = udp?;
                udp.set_nonblocking(true)?;
                tcp.set_nonblocking(true)?;
                return Ok((udp, tcp));
            }
        }
    }
}
