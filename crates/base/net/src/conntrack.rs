//! Connection tracking: forgetting connections, so that their next packet is looked at anew.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::namespace::NetNamespace;
use crate::netlink::{
    AttributeWriter, Attributes, NetlinkError, NetlinkSocket, ParseError, Protocol, Requests,
};

#[cfg(test)]
mod tests;

const DELETE: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 2;
const GET: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 1;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_SOURCE_PORT: u16 = 2;
const PROTO_DESTINATION_PORT: u16 = 3;
const MATCH_SOURCE: u32 = 1;
const MATCH_DESTINATION: u32 = 1 << 1;
const MATCH_PROTOCOL: u32 = 1 << 3;
const MATCH_SOURCE_PORT: u32 = 1 << 4;
const MATCH_DESTINATION_PORT: u32 = 1 << 5;

const IPV4: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];
/// Only with a version other than zero does the kernel heed the family when it deletes by filter.
const FILTERED_IPV4: [u8; 4] = [libc::AF_INET as u8, 1, 0, 0];

/// Which connections to forget: all that meet every condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connections {
    /// The protocol above IP.
    pub protocol: u8,
    /// Where the client sent to.
    pub destination: Option<Ipv4Addr>,
    /// Which port the client sent to.
    pub destination_port: u16,
    /// Who answered, address and port.
    pub answered_by: Option<(Ipv4Addr, u16)>,
}

/// A connection that the kernel tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracked {
    /// The protocol above IP.
    pub protocol: u8,
    /// The client.
    pub source: (Ipv4Addr, u16),
    /// Where the client sent to.
    pub destination: (Ipv4Addr, u16),
    /// Who answers: another one, if the destination was translated.
    pub answered_by: (Ipv4Addr, u16),
}

/// A socket to the kernel's connection tracking.
#[derive(Debug)]
pub struct ConntrackSocket {
    socket: NetlinkSocket,
    /// Whether the kernel can delete by filter (6.8). Older ones take the filter for half a name and refuse it.
    by_filter: bool,
}

impl ConntrackSocket {
    fn new(socket: NetlinkSocket) -> Self {
        Self {
            socket,
            by_filter: true,
        }
    }

    /// For the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        NetlinkSocket::open(Protocol::Netfilter).map(Self::new)
    }

    /// For another network namespace.
    pub fn open_in(namespace: &NetNamespace) -> Result<Self, NetlinkError> {
        NetlinkSocket::open_in(namespace, Protocol::Netfilter).map(Self::new)
    }

    /// The IPv4 connections of a protocol with ports.
    pub fn list(&mut self, protocol: u8) -> Result<Vec<Tracked>, NetlinkError> {
        let mut request = Requests::new();
        request.push(GET, 0, &IPV4, |_| {});
        let mut found = Vec::new();
        self.socket.dump(request, |message| {
            let (_, attributes) = message.split::<4>()?;
            found.extend(read(&attributes)?.filter(|tracked| tracked.protocol == protocol));
            Ok(())
        })?;
        Ok(found)
    }

    /// Forgets all connections that meet one of the descriptions, which may be none.
    pub fn forget(&mut self, which: &[Connections]) -> Result<(), NetlinkError> {
        if which.is_empty() {
            return Ok(());
        }
        if self.by_filter {
            let mut requests = Requests::new();
            for connections in which {
                requests.push(DELETE, 0, &FILTERED_IPV4, |w| {
                    connections.write(w);
                });
            }
            match self.socket.execute(requests) {
                Err(error) if matches!(error.refusal(), Some(Errno::INVAL | Errno::OPNOTSUPP)) => {
                    self.by_filter = false;
                }
                done => return done,
            }
        }
        self.forget_one_by_one(which)
    }

    /// Looks through all connections and names each that is to go.
    fn forget_one_by_one(&mut self, which: &[Connections]) -> Result<(), NetlinkError> {
        let protocols: BTreeSet<u8> = which.iter().map(|connections| connections.protocol).collect();
        let mut requests = Requests::new();
        for protocol in protocols {
            let tracked = self.list(protocol)?.into_iter();
            for found in tracked.filter(|found| which.iter().any(|connections| connections.describe(found))) {
                requests.push(DELETE, 0, &IPV4, |w| {
                    found.write(w);
                });
            }
        }
        let outcomes = self.socket.execute_each(requests)?.into_iter();
        // It may have ended by itself meanwhile.
        let mut failed = outcomes.filter(|outcome| {
            outcome
                .as_ref()
                .is_err_and(|error| error.refusal() != Some(Errno::NOENT))
        });
        failed.next().unwrap_or(Ok(()))
    }
}

fn read(attributes: &Attributes<'_>) -> Result<Option<Tracked>, ParseError> {
    let tuple = |kind, address, port| -> Result<Option<(u8, Ipv4Addr, u16)>, ParseError> {
        let Some(tuple) = attributes.find(kind)? else {
            return Ok(None);
        };
        let (ip, proto) = (tuple.nested().find(TUPLE_IP)?, tuple.nested().find(TUPLE_PROTO)?);
        let (Some(ip), Some(proto)) = (ip, proto) else {
            return Ok(None);
        };
        let address = ip.nested().find(address)?.map(|a| a.ipv4()).transpose()?;
        let port = proto.nested().find(port)?.map(|a| a.be16()).transpose()?;
        let number = proto
            .nested()
            .find(PROTO_NUMBER)?
            .and_then(|a| a.value.first().copied());
        Ok(number
            .zip(address)
            .zip(port)
            .map(|((number, address), port)| (number, address, port)))
    };
    let client = tuple(TUPLE_ORIGINAL, IP_SOURCE, PROTO_SOURCE_PORT)?;
    let original = tuple(TUPLE_ORIGINAL, IP_DESTINATION, PROTO_DESTINATION_PORT)?;
    let reply = tuple(TUPLE_REPLY, IP_SOURCE, PROTO_SOURCE_PORT)?;
    Ok(client.zip(original).zip(reply).map(
        |(((protocol, from, from_port), (_, to, to_port)), (_, by, by_port))| Tracked {
            protocol,
            source: (from, from_port),
            destination: (to, to_port),
            answered_by: (by, by_port),
        },
    ))
}

impl Tracked {
    /// As the kernel names it: who sent what where.
    fn write(&self, w: &mut AttributeWriter<'_>) {
        w.nest(TUPLE_ORIGINAL, |w| {
            w.nest(TUPLE_IP, |w| {
                w.ipv4(IP_SOURCE, self.source.0)
                    .ipv4(IP_DESTINATION, self.destination.0);
            });
            w.nest(TUPLE_PROTO, |w| {
                w.u8(PROTO_NUMBER, self.protocol)
                    .be16(PROTO_SOURCE_PORT, self.source.1)
                    .be16(PROTO_DESTINATION_PORT, self.destination.1);
            });
        });
    }
}

impl Connections {
    /// Whether a connection meets every condition.
    fn describe(&self, tracked: &Tracked) -> bool {
        let (address, port) = tracked.destination;
        tracked.protocol == self.protocol
            && port == self.destination_port
            && self.destination.is_none_or(|wanted| wanted == address)
            && self
                .answered_by
                .is_none_or(|wanted| wanted == tracked.answered_by)
    }

    fn write(&self, w: &mut AttributeWriter<'_>) {
        let mut original = MATCH_PROTOCOL | MATCH_DESTINATION_PORT;
        w.nest(TUPLE_ORIGINAL, |w| {
            if let Some(destination) = self.destination {
                original |= MATCH_DESTINATION;
                w.nest(TUPLE_IP, |w| {
                    w.ipv4(IP_DESTINATION, destination);
                });
            }
            w.nest(TUPLE_PROTO, |w| {
                w.u8(PROTO_NUMBER, self.protocol)
                    .be16(PROTO_DESTINATION_PORT, self.destination_port);
            });
        });
        let mut reply = 0;
        if let Some((address, port)) = self.answered_by {
            reply = MATCH_SOURCE | MATCH_PROTOCOL | MATCH_SOURCE_PORT;
            w.nest(TUPLE_REPLY, |w| {
                w.nest(TUPLE_IP, |w| {
                    w.ipv4(IP_SOURCE, address);
                });
                w.nest(TUPLE_PROTO, |w| {
                    w.u8(PROTO_NUMBER, self.protocol).be16(PROTO_SOURCE_PORT, port);
                });
            });
        }
        w.nest(FILTER, |w| {
            w.u32(FILTER_ORIGINAL, original).u32(FILTER_REPLY, reply);
        });
    }
}
