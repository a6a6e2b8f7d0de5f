//! Passing questions on, byte for byte but for their number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cloudeck_net::NetNamespace;
use cloudeck_net::resolve::ResolvConf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tracing::debug;

use crate::config::Upstream;

/// For one server; a client asks again after five seconds.
const DEADLINE: Duration = Duration::from_secs(2);
/// Servers may send more than they were offered.
const DATAGRAM_BYTES: usize = 4096;
const NUMBER_BYTES: usize = 2;

/// How the question came, and how it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Datagram,
    Stream,
}

/// Asks servers outside of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Forwarder {
    upstream: Upstream,
    /// Our own address and the Service's: a server there would be ourselves.
    own: [IpAddr; 2],
    namespace: Option<Arc<NetNamespace>>,
}

impl Forwarder {
    pub(crate) fn new(upstream: Upstream, own: [IpAddr; 2], namespace: Option<Arc<NetNamespace>>) -> Self {
        Self {
            upstream,
            own,
            namespace,
        }
    }

    /// The answer of the first server that gives one, with the question's number.
    pub(crate) async fn ask(&self, question: &[u8], way: Way) -> Option<Vec<u8>> {
        for server in self.servers() {
            let asked = match way {
                Way::Datagram => tokio::time::timeout(DEADLINE, self.by_datagram(server, question)).await,
                Way::Stream => tokio::time::timeout(DEADLINE, self.by_stream(server, question)).await,
            };
            match asked {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => debug!(%server, %error, "name server cannot be asked"),
                Err(_) => debug!(%server, "name server does not answer in time"),
            }
        }
        None
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let all = match &self.upstream {
            Upstream::Servers(servers) => servers.clone(),
            Upstream::Host => match ResolvConf::system() {
                Ok(conf) => conf.nameservers,
                Err(error) => {
                    debug!(%error, "resolv.conf cannot be read");
                    Vec::new()
                }
            },
        };
        all.into_iter()
            .filter(|server| !self.own.contains(&server.ip()) || server.port() != 53)
            .collect()
    }

    async fn by_datagram(&self, server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
        // A port of the kernel's choice for each question, and hearing only this server: hard to forge answers for.
        let socket = self.within(|| std::net::UdpSocket::bind((any(server), 0)))?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(server).await?;
        socket.send(question).await?;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if answers(&buffer[..length], question) {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    async fn by_stream(&self, server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
        let new = || {
            if server.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }
        };
        let mut stream = self.within(new)?.connect(server).await?;
        let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
        stream
            .write_all(&[&length.to_be_bytes(), question].concat())
            .await?;
        let length = stream.read_u16().await?;
        let mut buffer = vec![0; usize::from(length)];
        stream.read_exact(&mut buffer).await?;
        if answers(&buffer, question) {
            Ok(buffer)
        } else {
            Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "not the answer asked for",
            ))
        }
    }

    fn within<T: Send>(&self, open: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
        match &self.namespace {
            None => open(),
            Some(namespace) => {
                let runtime = tokio::runtime::Handle::current();
                let open = || {
                    let _entered = runtime.enter();
                    open()
                };
                namespace.run(open).map_err(std::io::Error::other)?
            }
        }
    }
}

fn answers(answer: &[u8], question: &[u8]) -> bool {
    answer
        .get(..NUMBER_BYTES)
        .is_some_and(|number| question.starts_with(number))
}

fn any(server: SocketAddr) -> IpAddr {
    if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}
