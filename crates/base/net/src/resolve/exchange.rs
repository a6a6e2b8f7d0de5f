//! One question to the configured servers: UDP, and TCP where the answer did not fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::ResolvConf;

/// Without EDNS no answer by UDP is longer, but servers that ignore that are understood.
const DATAGRAM_BYTES: usize = 4096;

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Empty where the name exists without such a record.
    Addresses(Vec<IpAddr>),
    NoSuchName,
}

/// Why no server gave an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("name server {0} did not answer in time")]
    TimedOut(SocketAddr),
    #[error("name server {0} refused the question with {1}")]
    Refused(SocketAddr, ResponseCode),
    #[error("name server {server} cannot be reached")]
    Unreachable {
        server: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no name server is configured")]
    NoServer,
}

/// Asks the servers in order, as often as configured, until one answers.
pub(super) async fn query(conf: &ResolvConf, name: &Name, kind: RecordType) -> Result<Answer, ExchangeError> {
    let mut last = ExchangeError::NoServer;
    for _ in 0..conf.attempts {
        for server in &conf.nameservers {
            let asked = timeout(conf.timeout, ask(*server, name, kind)).await;
            match asked.unwrap_or(Err(ExchangeError::TimedOut(*server))) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

async fn ask(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Answer, ExchangeError> {
    let unreachable = |source| ExchangeError::Unreachable { server, source };
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let bytes = question
        .to_vec()
        .map_err(|error| unreachable(io::Error::other(error)))?;
    let mut answer = by_udp(server, &question, &bytes).await.map_err(unreachable)?;
    if answer.metadata.truncation {
        answer = by_tcp(server, &question, &bytes).await.map_err(unreachable)?;
    }
    match answer.metadata.response_code {
        ResponseCode::NoError => Ok(Answer::Addresses(addresses(&answer, kind))),
        ResponseCode::NXDomain => Ok(Answer::NoSuchName),
        code => Err(ExchangeError::Refused(server, code)),
    }
}

/// From a port of the kernel's choice; the socket hears only the server. What is not the answer to this question is
/// ignored: it may be forged.
async fn by_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = [0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = answer_to(question, &buffer[..length]) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    answer_to(question, &buffer)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not the answer asked for"))
}

fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries.len() == question.queries.len()
        && answer.queries.iter().zip(&question.queries).all(|(got, asked)| {
            got.query_type() == asked.query_type() && got.name().eq_ignore_root_case(asked.name())
        });
    fits.then_some(answer)
}

/// A recursive server gives a chain of aliases with the addresses at its end.
fn addresses(answer: &Message, kind: RecordType) -> Vec<IpAddr> {
    let of_record = |data: &RData| match data {
        RData::A(address) if kind == RecordType::A => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) if kind == RecordType::AAAA => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    answer
        .answers
        .iter()
        .filter_map(|record| of_record(&record.data))
        .collect()
}
