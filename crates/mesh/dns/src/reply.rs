//! From outcomes to DNS messages. Pure.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::zone::{Data, Kind, Outcome, Zone};

/// Names of Services change with them; as in CoreDNS, nobody keeps them for longer.
const TTL_SECONDS: u32 = 5;
/// Without EDNS, RFC 1035.
const DATAGRAM_BYTES: usize = 512;
/// What fits into a packet everywhere (DNS flag day 2020); said to clients and the most that they are sent.
const DATAGRAM_BYTES_MAX: u16 = 1232;
const SRV_PRIORITY: u16 = 0;
const SRV_WEIGHT: u16 = 100;

/// What to do with a question.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Not a question; answering could start a ping-pong.
    Ignore,
    /// This is the answer.
    Answer(Message),
    /// Somebody else knows.
    Forward,
    /// The name stands for this one, which is to be looked up as well.
    Follow(Message, Name),
}

/// Decides about a message; `turn` rotates addresses, so that clients which take the first one spread.
pub(crate) fn decide(zone: &Zone, question: &Message, turn: usize) -> Decision {
    if question.metadata.message_type != MessageType::Query {
        return Decision::Ignore;
    }
    let mut answer = answer_to(question);
    if question.metadata.op_code != OpCode::Query {
        answer.metadata.response_code = ResponseCode::NotImp;
        return Decision::Answer(answer);
    }
    let [query] = question.queries.as_slice() else {
        answer.metadata.response_code = ResponseCode::FormErr;
        return Decision::Answer(answer);
    };
    if query.query_class() != DNSClass::IN {
        return Decision::Forward;
    }
    let name = query.name();
    match zone.look_up(&name.to_ascii(), kind_of(query.query_type())) {
        Outcome::NotOurs => return Decision::Forward,
        Outcome::Alias(target) => return follow(zone, query, answer, &target),
        Outcome::NoSuchName => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            answer.add_authority(authority(zone));
        }
        Outcome::Records(mut found) => {
            if found.is_empty() {
                answer.add_authority(authority(zone));
            } else {
                let by = turn % found.len();
                found.rotate_left(by);
            }
            for data in found {
                add(zone, &mut answer, name, data);
            }
        }
    }
    answer.metadata.authoritative = true;
    Decision::Answer(answer)
}

/// An empty answer that repeats the question.
pub(crate) fn answer_to(question: &Message) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_queries(question.queries.iter().cloned());
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_BYTES_MAX);
        answer.set_edns(edns);
    }
    answer
}

/// The bytes of an answer by UDP: cut, and marked so, if the client cannot take them all.
pub(crate) fn datagram(question: &Message, answer: &Message) -> Option<Vec<u8>> {
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= room(question) {
        return Some(bytes);
    }
    let mut cut = answer.truncate();
    cut.edns.clone_from(&answer.edns);
    cut.to_vec().ok()
}

/// How long a datagram may be.
pub(crate) fn room(question: &Message) -> usize {
    let said = question
        .edns
        .as_ref()
        .map(|edns| usize::from(edns.max_payload().min(DATAGRAM_BYTES_MAX)));
    said.unwrap_or(DATAGRAM_BYTES).max(DATAGRAM_BYTES)
}

fn follow(zone: &Zone, query: &Query, mut answer: Message, target: &str) -> Decision {
    let Some(target) = absolute(target) else {
        answer.metadata.response_code = ResponseCode::ServFail;
        return Decision::Answer(answer);
    };
    let alias = RData::CNAME(CNAME(target.clone()));
    answer.add_answer(Record::from_rdata(query.name().clone(), TTL_SECONDS, alias));
    answer.metadata.authoritative = true;
    if !matches!(query.query_type(), RecordType::A | RecordType::AAAA) {
        return Decision::Answer(answer);
    }
    // An alias of a name of ours needs nobody else; an alias of an alias ends here, as loops are possible.
    match zone.look_up(&target.to_ascii(), kind_of(query.query_type())) {
        Outcome::NotOurs => Decision::Follow(answer, target),
        Outcome::Records(found) => {
            for data in found {
                add(zone, &mut answer, &target, data);
            }
            Decision::Answer(answer)
        }
        Outcome::NoSuchName | Outcome::Alias(_) => Decision::Answer(answer),
    }
}

fn add(zone: &Zone, answer: &mut Message, name: &Name, data: Data) {
    let data = match data {
        Data::A(address) => Some(RData::A(A(address))),
        Data::Srv {
            port,
            target,
            address,
        } => {
            let target = absolute(&target);
            if let Some(target) = &target {
                add_extra(answer, target, address);
            }
            target.map(|target| RData::SRV(SRV::new(SRV_PRIORITY, SRV_WEIGHT, port, target)))
        }
        Data::Ptr(target) => absolute(&target).map(|target| RData::PTR(PTR(target))),
        Data::Txt(text) => Some(RData::TXT(TXT::new(vec![text]))),
        Data::Ns(target) => absolute(&target).map(|target| RData::NS(NS(target))),
        Data::Soa => {
            answer.add_answer(authority(zone));
            None
        }
    };
    if let Some(data) = data {
        answer.add_answer(Record::from_rdata(name.clone(), TTL_SECONDS, data));
    }
}

fn add_extra(answer: &mut Message, name: &Name, address: Ipv4Addr) {
    let record = Record::from_rdata(name.clone(), TTL_SECONDS, RData::A(A(address)));
    if !answer.additionals.contains(&record) {
        answer.add_additional(record);
    }
}

fn authority(zone: &Zone) -> Record {
    let ttl = TTL_SECONDS;
    let name = |text: &str| absolute(text).unwrap_or_else(Name::root);
    let soa = SOA::new(
        name(&zone.server_name()),
        name(&format!("hostmaster.{}", zone.domain())),
        1,
        7200,
        1800,
        86400,
        ttl,
    );
    Record::from_rdata(name(zone.domain()), ttl, RData::SOA(soa))
}

fn kind_of(kind: RecordType) -> Kind {
    match kind {
        RecordType::A => Kind::A,
        RecordType::SRV => Kind::Srv,
        RecordType::PTR => Kind::Ptr,
        RecordType::TXT => Kind::Txt,
        RecordType::SOA => Kind::Soa,
        RecordType::NS => Kind::Ns,
        _ => Kind::Other,
    }
}

/// `None` when the text cannot be a name, which an API object's fields may be.
fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}
