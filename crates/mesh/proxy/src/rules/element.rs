//! Entries as elements of the table's sets and maps.

use std::net::Ipv4Addr;

use cloudeck_net::nftables::{Element, Verdict};

use crate::model::{Entry, Frontend, Refusal};

use super::{
    ANY, CLUSTER_IPS, EXTERNAL_IPS, HAIRPIN, REJECT_CHAIN, REMEMBER, STICKY, UNREACHABLE, by, offset,
    remember_chain, slots_map, sticky_chain,
};

/// Entries as elements, by set in the order of their first appearance; without values if they are to be deleted.
pub(super) fn by_set(entries: &[Entry], with_values: bool) -> Vec<(String, Vec<Element>)> {
    let mut sets: Vec<(String, Vec<Element>)> = Vec::new();
    for entry in entries {
        let (set, element) = element_of(*entry, with_values);
        match sets.iter_mut().find(|(name, _)| *name == set) {
            Some((_, elements)) => elements.push(element),
            None => sets.push((set, vec![element])),
        }
    }
    sets
}

fn element_of(entry: Entry, with_value: bool) -> (String, Element) {
    let valued = |element: Element, value: &dyn Fn(Element) -> Element| {
        if with_value { value(element) } else { element }
    };
    match entry {
        Entry::Slot {
            class,
            frontend,
            scope,
            slot,
            endpoint,
        } => {
            let key = frontend_key(Element::new(), frontend).mark(offset(scope) + slot);
            (
                slots_map(class),
                valued(key, &|key| key.to_endpoint(endpoint.address, endpoint.port)),
            )
        }
        Entry::Sticky {
            frontend,
            scope,
            seconds,
        } => {
            let key = frontend_key(Element::new(), frontend).mark(offset(scope));
            let chain = || Verdict::Goto(sticky_chain(seconds, scope, by(frontend)));
            (STICKY.to_owned(), valued(key, &|key| key.to_verdict(chain())))
        }
        Entry::Remembered { frontend, seconds } => {
            let chain = || Verdict::Goto(remember_chain(seconds, by(frontend)));
            let key = frontend_key(Element::new(), frontend);
            (REMEMBER.to_owned(), valued(key, &|key| key.to_verdict(chain())))
        }
        Entry::Refused { frontend, refusal } => {
            let verdict = || match refusal {
                Refusal::Reject => Verdict::Goto(REJECT_CHAIN.to_owned()),
                Refusal::Drop => Verdict::Drop,
            };
            let key = frontend_key(Element::new(), frontend);
            (
                UNREACHABLE.to_owned(),
                valued(key, &|key| key.to_verdict(verdict())),
            )
        }
        Entry::Hairpin(address) => (
            HAIRPIN.to_owned(),
            Element::new().address(address).address(address),
        ),
        Entry::ExternalIp(address) => (EXTERNAL_IPS.to_owned(), Element::new().address(address)),
        Entry::ClusterIp(address) => (CLUSTER_IPS.to_owned(), Element::new().address(address)),
    }
}

fn frontend_key(element: Element, frontend: Frontend) -> Element {
    element
        .address(frontend.address.unwrap_or(ANY))
        .protocol(frontend.protocol.number())
        .port(frontend.port)
}

/// What every affinity element of the frontend that leads to the endpoint looks like, after the client's address.
pub(crate) fn affinity_pattern(frontend: Frontend, address: Ipv4Addr, port: u16) -> (Vec<u8>, Vec<u8>) {
    let pattern = frontend_key(Element::new(), frontend).to_endpoint(address, port);
    (pattern.key().to_vec(), pattern.value().to_vec())
}
