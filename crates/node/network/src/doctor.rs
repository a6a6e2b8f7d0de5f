//! What on this host would keep pods from talking, and what to do about it.

use std::sync::Arc;

use cloudeck_net::nftables::{
    BaseChain, Batch, Chain, ChainKind, Hook, Meta, NatKind, Register, Rule, SetSpec, SetType,
};
use cloudeck_net::route::{MacAddress, VethSpec};
use cloudeck_net::{Ipv4Cidr, NetNamespace, RouteSocket, legacy};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::host::{Place, ROUTE_PROTOCOL};

#[cfg(test)]
mod tests;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Some pods or Services will not work.
    Warning,
    /// Nothing will work.
    Error,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Looks at the host's kernel and firewall. Changes nothing on the host.
///
/// # Blocking
/// Some milliseconds: a veth pair is made and removed in a namespace of its own.
pub fn diagnose(namespace: Option<Arc<NetNamespace>>) -> Vec<Finding> {
    let place = Place(namespace);
    let mut findings = Vec::new();
    findings.extend(missing_links());
    findings.extend(missing_expressions(&place));
    match place.nft_socket().and_then(|mut nft| nft.chains()) {
        Ok(chains) => findings.extend(forward_blocked(&chains)),
        Err(error) => findings.push(Finding {
            severity: Severity::Error,
            what: format!("nftables does not answer: {error}"),
            remedy: "use a kernel with CONFIG_NF_TABLES and run as root".to_owned(),
        }),
    }
    if let Ok(Ok(true)) = place.run(legacy::forward_drops) {
        findings.push(dropping("chain FORWARD of the older iptables".to_owned()));
    }
    findings
}

/// Looks for routes of the host that lie within the cluster's ranges: what they lead to and the cluster would get
/// each other's packets. Changes nothing.
pub fn diagnose_ranges(namespace: Option<Arc<NetNamespace>>, ranges: &[Ipv4Cidr]) -> Vec<Finding> {
    let routes = match Place(namespace)
        .route_socket()
        .and_then(|mut socket| socket.routes())
    {
        Ok(routes) => routes,
        Err(error) => {
            return vec![Finding {
                severity: Severity::Error,
                what: format!("the routes cannot be read: {error}"),
                remedy: "run as root".to_owned(),
            }];
        }
    };
    let foreign = routes.iter().filter(|route| route.protocol != ROUTE_PROTOCOL);
    let within = |range: Ipv4Cidr| {
        foreign.clone().filter(move |route| {
            range.contains(route.destination.network()) && range.prefix() <= route.destination.prefix()
        })
    };
    let clashes = ranges
        .iter()
        .flat_map(|range| within(*range).map(move |route| (range, route)));
    clashes
        .map(|(range, route)| Finding {
            severity: Severity::Warning,
            what: format!(
                "the host's route to {} lies within the cluster's range {range}",
                route.destination
            ),
            remedy: "choose other ranges for pods and Services".to_owned(),
        })
        .collect()
}

fn missing_links() -> Option<Finding> {
    let make = || {
        let (near, far) = (NetNamespace::create()?, NetNamespace::create()?);
        let (mac, peer_mac) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let spec = VethSpec {
            name: "probe0",
            mac,
            peer_name: "probe1",
            peer_mac,
            mtu_bytes: 1500,
        };
        RouteSocket::open_in(&near)?.add_veth(&spec, far.as_fd())
    };
    let error = make().err()?;
    Some(Finding {
        severity: Severity::Error,
        what: format!("no veth pair across network namespaces can be made: {error}"),
        remedy: "use a kernel with CONFIG_VETH and CONFIG_NET_NS, and run as root".to_owned(),
    })
}

/// Offers the kernel a batch with each kind of rule that we use, without applying it.
fn missing_expressions(place: &Place) -> Vec<Finding> {
    let nat = |hook| BaseChain {
        kind: ChainKind::Nat,
        hook,
        priority: 0,
    };
    let filter = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Input,
        priority: 0,
    };
    let (key, value, random) = (Register(0), Register(4), Register(3));
    let timeout = Duration::from_secs(1);
    let probes = [
        (
            "destination translation",
            nat(Hook::Prerouting),
            Rule::new()
                .load_source(key)
                .translate(NatKind::Destination, key, None),
        ),
        ("masquerading", nat(Hook::Postrouting), Rule::new().masquerade()),
        (
            "random numbers (NFT_NUMGEN)",
            filter,
            Rule::new().load_random(12, 0, random),
        ),
        (
            "hashes (NFT_HASH)",
            filter,
            Rule::new().load_source(key).load_hash(key, 4, 1, 12, 0, random),
        ),
        (
            "address types (NFT_FIB)",
            filter,
            Rule::new().if_destination_is_local(),
        ),
        ("rejection (NFT_REJECT)", filter, Rule::new().reject()),
        ("connection states (NFT_CT)", filter, Rule::new().if_ct_state(8)),
        (
            "sets filled by rules",
            filter,
            Rule::new()
                .load_source(key)
                .load_meta(Meta::Mark, value)
                .remember("m", key, value, timeout),
        ),
    ];
    let mut findings = Vec::new();
    for (feature, hook, rule) in probes {
        let memory = SetSpec::map("m", &[SetType::Ipv4Address], &[SetType::Mark]).filled_by_rules(timeout);
        let mut batch = Batch::new();
        batch
            .add_table("cloudeck-probe")
            .add_set("cloudeck-probe", &memory);
        batch
            .add_chain("cloudeck-probe", "c", Some(hook))
            .add_rule("cloudeck-probe", "c", &rule);
        if let Err(error) = place.nft_socket().and_then(|mut nft| nft.check(batch)) {
            findings.push(Finding {
                severity: Severity::Error,
                what: format!("nftables has no {feature}: {error}"),
                remedy: "use a kernel with the nf_tables modules that Debian and others build".to_owned(),
            });
        }
    }
    findings
}

/// Other people's rules that drop what passes through this host.
fn forward_blocked(chains: &[Chain]) -> Vec<Finding> {
    const FORWARD: u32 = 2;
    let guilty = chains.iter().filter(|chain| {
        chain.hook == Some(FORWARD) && chain.drops_by_policy && !chain.table.starts_with("cloudeck-")
    });
    let mut findings: Vec<_> = guilty
        .map(|chain| dropping(format!("chain {} of table {}", chain.name, chain.table)))
        .collect();
    if chains.iter().any(|chain| chain.table == "firewalld") {
        findings.push(Finding {
            severity: Severity::Warning,
            what: "firewalld is active and rejects forwarded packets between its zones".to_owned(),
            remedy:
                "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 && firewall-cmd --reload"
                    .to_owned(),
        });
    }
    findings
}

fn dropping(chain: String) -> Finding {
    Finding {
        severity: Severity::Warning,
        what: format!(
            "{chain} drops forwarded packets unless a rule of its own accepts them (Docker and firewalls do this): \
             pods cannot reach each other or the outside"
        ),
        remedy: "allow the pods' range in it, e.g. iptables -I FORWARD -s 10.244.0.0/16 -j ACCEPT and the same with -d"
            .to_owned(),
    }
}
