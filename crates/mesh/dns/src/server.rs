//! Datagrams and streams.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cloudeck_net::Ipv4Cidr;
use cloudeck_task::Scope;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::forward::{Forwarder, Way};
use crate::reply::{self, Decision};
use crate::zone::Zone;

/// Questions that wait for other servers at once; more are told to try again. Each holds about 10 kB.
const FORWARDS_AT_ONCE: usize = 1024;
const STREAMS_AT_ONCE: usize = 256;
/// A stream without a question for so long is closed.
const STREAM_IDLE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const DATAGRAM_BYTES: usize = 4096;

/// What all questions need.
pub(crate) struct Shared {
    pub(crate) zone: RwLock<Zone>,
    forwarder: Forwarder,
    clients: Vec<Ipv4Cidr>,
    forwards: Semaphore,
    streams: Arc<Semaphore>,
    turn: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(zone: Zone, forwarder: Forwarder, clients: Vec<Ipv4Cidr>) -> Self {
        Self {
            zone: RwLock::new(zone),
            forwarder,
            clients,
            forwards: Semaphore::new(FORWARDS_AT_ONCE),
            streams: Arc::new(Semaphore::new(STREAMS_AT_ONCE)),
            turn: AtomicUsize::new(0),
        }
    }

    fn serves(&self, client: SocketAddr) -> bool {
        match client.ip() {
            IpAddr::V4(address) => {
                address.is_loopback() || self.clients.iter().any(|range| range.contains(address))
            }
            IpAddr::V6(address) => address.is_loopback(),
        }
    }

    fn decide(&self, question: &Message) -> Decision {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        reply::decide(&zone, question, turn)
    }

    /// Asks other servers, whose answer is passed on as it is.
    async fn forward(&self, bytes: &[u8], question: &Message, way: Way) -> Option<Vec<u8>> {
        let failed = || {
            let mut answer = reply::answer_to(question);
            answer.metadata.response_code = ResponseCode::ServFail;
            answer.to_vec().ok()
        };
        let Ok(_permit) = self.forwards.try_acquire() else {
            return failed();
        };
        self.forwarder.ask(bytes, way).await.or_else(failed)
    }

    /// Adds what the alias stands for.
    async fn follow(&self, mut answer: Message, target: Name) -> Message {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        let kind = answer.queries.first().map_or(RecordType::A, Query::query_type);
        question.add_query(Query::query(target, kind));
        let Ok(bytes) = question.to_vec() else {
            return answer;
        };
        let found = self.forward(&bytes, &question, Way::Datagram).await;
        if let Some(found) = found.and_then(|bytes| Message::from_vec(&bytes).ok()) {
            answer.add_answers(found.answers);
        }
        answer
    }
}

/// Answers datagrams. What the cluster knows is answered on the spot, the rest by tasks of their own.
pub(crate) async fn serve_datagrams(shared: Arc<Shared>, socket: Arc<UdpSocket>, scope: Scope) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An unreachable client of an earlier answer is told here.
            Err(error) => {
                debug!(%error, "datagram not received");
                continue;
            }
        };
        if !shared.serves(client) {
            continue;
        }
        let bytes = &buffer[..length];
        let Ok(question) = Message::from_vec(bytes) else {
            continue;
        };
        match shared.decide(&question) {
            Decision::Ignore => {}
            Decision::Answer(answer) => send(&socket, client, reply::datagram(&question, &answer)).await,
            Decision::Forward => {
                let (shared, socket, bytes) = (Arc::clone(&shared), Arc::clone(&socket), bytes.to_vec());
                scope.spawn_until_shutdown("dns-forward", async move {
                    let answer = shared.forward(&bytes, &question, Way::Datagram).await;
                    send(&socket, client, answer).await;
                });
            }
            Decision::Follow(answer, target) => {
                let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                scope.spawn_until_shutdown("dns-follow", async move {
                    let answer = shared.follow(answer, target).await;
                    send(&socket, client, reply::datagram(&question, &answer)).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, client: SocketAddr, answer: Option<Vec<u8>>) {
    let Some(answer) = answer else { return };
    if let Err(error) = socket.send_to(&answer, client).await {
        debug!(peer = %client, %error, "answer not sent");
    }
}

/// Answers streams.
pub(crate) async fn serve_streams(shared: Arc<Shared>, listener: TcpListener, scope: Scope) {
    loop {
        let Ok(permit) = Arc::clone(&shared.streams).acquire_owned().await else {
            return;
        };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a DNS connection");
                // Out of descriptors, most likely, of which nobody tells when there are some again.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !shared.serves(client) {
            continue;
        }
        let shared = Arc::clone(&shared);
        scope.spawn_until_shutdown("dns-stream", async move {
            let _permit = permit;
            if let Err(error) = serve_stream(&shared, stream).await {
                debug!(peer = %client, %error, "DNS connection ended");
            }
        });
    }
}

async fn serve_stream(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let Ok(length) = tokio::time::timeout(STREAM_IDLE, stream.read_u16()).await else {
            return Ok(());
        };
        let length = match length {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            length => length?,
        };
        let mut bytes = vec![0; usize::from(length)];
        let Ok(read) = tokio::time::timeout(STREAM_IDLE, stream.read_exact(&mut bytes)).await else {
            return Ok(());
        };
        read?;
        let Some(answer) = answer_stream(shared, &bytes).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream
            .write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())
            .await?;
    }
}

async fn answer_stream(shared: &Shared, bytes: &[u8]) -> Option<Vec<u8>> {
    let question = Message::from_vec(bytes).ok()?;
    match shared.decide(&question) {
        Decision::Ignore => None,
        Decision::Answer(answer) => answer.to_vec().ok(),
        Decision::Forward => shared.forward(bytes, &question, Way::Stream).await,
        Decision::Follow(answer, target) => shared.follow(answer, target).await.to_vec().ok(),
    }
}
