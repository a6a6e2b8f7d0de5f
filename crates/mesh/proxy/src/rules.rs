//! The table: its fixed shape, and entries as elements of its sets.
//!
//! ```text
//! prerouting ─┬─ from a pod ─→ near ─┬─ near-address ─┐   each of the four:
//!             └──────────────→ far   └─ near-port     │     sticky? ─→ sticky-N-… (affinity map, else by hash)
//! output ─────── near, far ─→ far-address, far-port  ─┘     slots-12, slots-120, slots-1200 by a random number
//! filter-postrouting, filter-input   sticky? ─→ remember-N-…: which endpoint the client was sent to
//! postrouting   what was sent on here and would not come back: node's address as source
//! input, forward, output (filter)   unreachable? ─→ reject or drop; Service addresses with other ports: reject
//! ```
//!
//! Node ports answer on 127.0.0.1 because the pods' devices let that range pass; the guard against everybody else
//! (CVE-2020-8558) stands where they are made, in `cloudeck-network`.

mod element;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use cloudeck_net::Ipv4Cidr;
use cloudeck_net::nftables::{
    BaseChain, Batch, ChainKind, Hook, Meta, NatKind, Register, Rule, SetSpec, SetType, Verdict, ct_state,
};

use crate::config::ProxyConfig;
use crate::model::{Delta, Entry, Frontend, Scope};
use crate::slots::SizeClass;

pub(crate) use element::affinity_pattern;
use element::by_set;

pub(crate) const AFFINITY: &str = "affinity";
const STICKY: &str = "sticky";
const REMEMBER: &str = "remember";
const EXTERNAL_IPS: &str = "external-ips";
const UNREACHABLE: &str = "unreachable";
const HAIRPIN: &str = "hairpin";
const CLUSTER_IPS: &str = "cluster-ips";
const REJECT_CHAIN: &str = "reject";

const FRONTEND_KEY: [SetType; 3] = [SetType::Ipv4Address, SetType::Protocol, SetType::Port];
const SLOT_KEY: [SetType; 4] = [
    SetType::Ipv4Address,
    SetType::Protocol,
    SetType::Port,
    SetType::Mark,
];
const AFFINITY_KEY: [SetType; 4] = [
    SetType::Ipv4Address,
    SetType::Ipv4Address,
    SetType::Protocol,
    SetType::Port,
];
const ENDPOINT: [SetType; 2] = [SetType::Ipv4Address, SetType::Port];

/// The client's address; the frontend's key follows, and after that the slot or the scope.
const CLIENT: Register = Register(0);
const KEY: Register = Register(1);
const LAST: Register = Register(4);
const ENDPOINT_ADDRESS: Register = Register(8);
const ENDPOINT_PORT: Register = Register(9);

/// Stands for "any address of this host" in keys of node ports.
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// The mark of connections that the proxy has sent on; the bit that kube-proxy uses, so tools know it.
const SENT_ON: u32 = 0x4000;
/// Near slots are numbered from here.
const NEAR_OFFSET: u32 = 0x1_0000;
/// Any value: it only has to be the same after a restart.
const HASH_SEED: u32 = 0xc10d;
/// When a rule names none; every rule does.
const AFFINITY_DEFAULT: Duration = Duration::from_hours(3);

const PRIORITY_DESTINATION: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE: i32 = 100;

/// How the frontend's address is found in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Address,
    NodePort,
}

const LOOKUPS: [(Scope, By); 4] = [
    (Scope::Near, By::Address),
    (Scope::Near, By::NodePort),
    (Scope::Far, By::Address),
    (Scope::Far, By::NodePort),
];

/// Translates entries into batches for one table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    node_ip: Ipv4Addr,
    pod_cidr: Ipv4Cidr,
    cluster_cidr: Ipv4Cidr,
    service_cidr: Ipv4Cidr,
    /// Affinity times for which there are chains. They stay until the table is made anew.
    sticky_seconds: BTreeSet<u32>,
}

impl Table {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        Self {
            name: config.table(),
            node_ip: config.node_ip,
            pod_cidr: config.pod_cidr,
            cluster_cidr: config.cluster_cidr,
            service_cidr: config.service_cidr,
            sticky_seconds: BTreeSet::new(),
        }
    }

    /// The whole table in place of whatever has its name.
    pub(crate) fn replace(&mut self, entries: &[Entry]) -> Batch {
        self.sticky_seconds.clear();
        let mut batch = Batch::new();
        batch.renew_table(&self.name);
        self.add_sets(&mut batch);
        self.add_chains(&mut batch);
        self.add_translation(&mut batch);
        self.add_source_translation(&mut batch);
        self.add_memory(&mut batch);
        self.add_filters(&mut batch);
        self.add_entries(&mut batch, entries);
        batch
    }

    /// The difference.
    pub(crate) fn change(&mut self, delta: &Delta) -> Batch {
        let mut batch = Batch::new();
        for (set, elements) in by_set(&delta.remove, false) {
            batch.delete_elements(&self.name, &set, &elements);
        }
        self.add_entries(&mut batch, &delta.add);
        batch
    }

    fn add_entries(&mut self, batch: &mut Batch, entries: &[Entry]) {
        for entry in entries {
            if let Entry::Sticky { seconds, .. } | Entry::Remembered { seconds, .. } = entry {
                self.add_sticky_chains(batch, *seconds);
            }
        }
        for (set, elements) in by_set(entries, true) {
            batch.add_elements(&self.name, &set, &elements);
        }
    }

    fn add_sets(&self, batch: &mut Batch) {
        for class in SizeClass::ALL {
            batch.add_set(&self.name, &SetSpec::map(&slots_map(class), &SLOT_KEY, &ENDPOINT));
        }
        let affinity = SetSpec::map(AFFINITY, &AFFINITY_KEY, &ENDPOINT).filled_by_rules(AFFINITY_DEFAULT);
        batch
            .add_set(&self.name, &affinity)
            .add_set(&self.name, &SetSpec::verdict_map(STICKY, &SLOT_KEY))
            .add_set(&self.name, &SetSpec::verdict_map(REMEMBER, &FRONTEND_KEY))
            .add_set(&self.name, &SetSpec::set(EXTERNAL_IPS, &[SetType::Ipv4Address]))
            .add_set(&self.name, &SetSpec::verdict_map(UNREACHABLE, &FRONTEND_KEY))
            .add_set(&self.name, &SetSpec::set(HAIRPIN, &[SetType::Ipv4Address; 2]))
            .add_set(&self.name, &SetSpec::set(CLUSTER_IPS, &[SetType::Ipv4Address]));
    }

    fn add_chains(&self, batch: &mut Batch) {
        let nat = |hook, priority| {
            Some(BaseChain {
                kind: ChainKind::Nat,
                hook,
                priority,
            })
        };
        let filter = |hook, priority| {
            Some(BaseChain {
                kind: ChainKind::Filter,
                hook,
                priority,
            })
        };
        let base = [
            ("prerouting", nat(Hook::Prerouting, PRIORITY_DESTINATION)),
            ("output", nat(Hook::Output, PRIORITY_DESTINATION)),
            ("postrouting", nat(Hook::Postrouting, PRIORITY_SOURCE)),
            ("filter-postrouting", filter(Hook::Postrouting, PRIORITY_FILTER)),
            ("filter-input", filter(Hook::Input, PRIORITY_FILTER)),
            ("filter-forward", filter(Hook::Forward, PRIORITY_FILTER)),
            ("filter-output", filter(Hook::Output, PRIORITY_FILTER)),
        ];
        for (chain, hook) in base {
            batch.add_chain(&self.name, chain, hook);
        }
        for chain in ["near", "far", REJECT_CHAIN] {
            batch.add_chain(&self.name, chain, None);
        }
        for (scope, by) in LOOKUPS {
            batch.add_chain(&self.name, &lookup_chain(scope, by), None);
        }
    }

    fn add_translation(&self, batch: &mut Batch) {
        let from_pod = Rule::new().if_source_in(self.cluster_cidr);
        self.rule(batch, "prerouting", &from_pod.verdict(&jump("near")));
        self.rule(batch, "prerouting", &Rule::new().verdict(&jump("far")));
        self.rule(batch, "output", &Rule::new().verdict(&jump("near")));
        self.rule(batch, "output", &Rule::new().verdict(&jump("far")));
        for (scope, by) in LOOKUPS {
            let way = match by {
                By::Address => Rule::new(),
                By::NodePort => Rule::new().if_destination_is_local(),
            };
            self.rule(
                batch,
                scope_name(scope),
                &way.verdict(&jump(&lookup_chain(scope, by))),
            );
            self.add_lookup(batch, scope, by);
        }
    }

    fn add_lookup(&self, batch: &mut Batch, scope: Scope, by: By) {
        let chain = lookup_chain(scope, by);
        let sticky = load_key(Rule::new(), by)
            .load_number(offset(scope), LAST)
            .verdict_from_map(STICKY, KEY);
        self.rule(batch, &chain, &sticky);
        for class in SizeClass::ALL {
            let drawn = load_key(Rule::new(), by).load_random(class.slots(), offset(scope), LAST);
            let found = drawn.load_from_map(&slots_map(class), KEY, ENDPOINT_ADDRESS);
            self.rule(batch, &chain, &send_on(found));
        }
    }

    fn add_sticky_chains(&mut self, batch: &mut Batch, seconds: u32) {
        if !self.sticky_seconds.insert(seconds) {
            return;
        }
        let timeout = Duration::from_secs(u64::from(seconds));
        for (scope, by) in LOOKUPS {
            let chain = sticky_chain(seconds, scope, by);
            batch.add_chain(&self.name, &chain, None);
            let client = || load_key(Rule::new().load_source(CLIENT), by);
            let known = client().load_from_map(AFFINITY, CLIENT, ENDPOINT_ADDRESS);
            self.rule(batch, &chain, &send_on(known));
            for class in SizeClass::ALL {
                // By hash: whoever comes back after everything was forgotten most likely finds the same endpoint.
                let drawn = client().load_hash(CLIENT, 4, HASH_SEED, class.slots(), offset(scope), LAST);
                let fresh = drawn.load_from_map(&slots_map(class), KEY, ENDPOINT_ADDRESS);
                self.rule(batch, &chain, &send_on(fresh));
            }
        }
        for by in [By::Address, By::NodePort] {
            let chain = remember_chain(seconds, by);
            batch.add_chain(&self.name, &chain, None);
            // Where the packet goes by now. If the map is full, the client is served all the same.
            let remember = load_original_key(Rule::new().load_source(CLIENT), by)
                .load_destination(ENDPOINT_ADDRESS)
                .load_destination_port(ENDPOINT_PORT)
                .remember(AFFINITY, CLIENT, ENDPOINT_ADDRESS, timeout);
            self.rule(batch, &chain, &remember);
        }
    }

    /// After translation and before the source is changed: notes where sticky clients were sent.
    fn add_memory(&self, batch: &mut Batch) {
        for chain in ["filter-postrouting", "filter-input"] {
            let sent_on = || Rule::new().if_ct_state(ct_state::NEW).if_mark_has(SENT_ON);
            let by_address = load_original_key(sent_on(), By::Address).verdict_from_map(REMEMBER, KEY);
            self.rule(batch, chain, &by_address);
            // Node ports have no address in their key; what was sent to a Service's address has nothing to do with them.
            let other = sent_on().load_original_destination(KEY);
            let other = other
                .unless_in_set(CLUSTER_IPS, KEY)
                .unless_in_set(EXTERNAL_IPS, KEY);
            let by_port = load_original_key(other, By::NodePort).verdict_from_map(REMEMBER, KEY);
            self.rule(batch, chain, &by_port);
        }
    }

    fn add_source_translation(&self, batch: &mut Batch) {
        let sent_on = || Rule::new().if_mark_has(SENT_ON);
        let as_node = |rule: Rule| {
            let source = rule.load_address(self.node_ip, KEY);
            source.translate(NatKind::Source, KEY, None)
        };
        let (source, destination) = (KEY, Register(KEY.0 + 1));
        let hairpin = sent_on()
            .load_source(source)
            .load_destination(destination)
            .if_in_set(HAIRPIN, source);
        self.rule(batch, "postrouting", &as_node(hairpin));
        // Before the rules for the node's own addresses, of which these are some.
        self.rule(batch, "postrouting", &as_node(sent_on().if_source_in(loopback())));
        let comes_back = [
            sent_on().if_source_in(self.cluster_cidr),
            sent_on().if_source_is_local(),
            sent_on().if_destination_in(self.pod_cidr),
        ];
        for rule in comes_back {
            self.rule(batch, "postrouting", &rule.verdict(&Verdict::Return));
        }
        self.rule(batch, "postrouting", &sent_on().masquerade());
    }

    fn add_filters(&self, batch: &mut Batch) {
        // A local process that connects holds its socket while an ICMP message comes in, which then counts for nothing
        // until the next attempt a second later; a reset waits for it.
        self.rule(batch, REJECT_CHAIN, &Rule::new().reset_tcp());
        self.rule(batch, REJECT_CHAIN, &Rule::new().reject());

        let new = || Rule::new().if_ct_state(ct_state::NEW);
        for chain in ["filter-input", "filter-forward", "filter-output"] {
            let unreachable = load_key(new(), By::Address).verdict_from_map(UNREACHABLE, KEY);
            self.rule(batch, chain, &unreachable);
        }
        let node_port = load_key(new(), By::NodePort).verdict_from_map(UNREACHABLE, KEY);
        self.rule(batch, "filter-input", &node_port);
        for chain in ["filter-forward", "filter-output"] {
            let other_port = new().load_destination(KEY).if_in_set(CLUSTER_IPS, KEY);
            self.rule(
                batch,
                chain,
                &other_port.verdict(&Verdict::Goto(REJECT_CHAIN.to_owned())),
            );
            let unallocated = new().if_destination_in(self.service_cidr);
            self.rule(batch, chain, &unallocated.verdict(&Verdict::Drop));
        }
    }

    fn rule(&self, batch: &mut Batch, chain: &str, rule: &Rule) {
        batch.add_rule(&self.name, chain, rule);
    }
}

/// Loads what a frontend is found by.
fn load_key(rule: Rule, by: By) -> Rule {
    let address = match by {
        By::Address => rule.load_destination(KEY),
        By::NodePort => rule.load_address(ANY, KEY),
    };
    address
        .load_meta(Meta::L4Protocol, Register(KEY.0 + 1))
        .load_destination_port(Register(KEY.0 + 2))
}

/// Loads what the frontend was found by, after translation.
fn load_original_key(rule: Rule, by: By) -> Rule {
    let address = match by {
        By::Address => rule.load_original_destination(KEY),
        By::NodePort => rule.load_address(ANY, KEY),
    };
    address
        .load_meta(Meta::L4Protocol, Register(KEY.0 + 1))
        .load_original_port(Register(KEY.0 + 2))
}

fn send_on(found: Rule) -> Rule {
    found
        .set_mark_bits(SENT_ON)
        .translate(NatKind::Destination, ENDPOINT_ADDRESS, Some(ENDPOINT_PORT))
}

fn jump(chain: &str) -> Verdict {
    Verdict::Jump(chain.to_owned())
}

fn loopback() -> Ipv4Cidr {
    Ipv4Cidr::new(Ipv4Addr::LOCALHOST, 8).expect("8 is a prefix")
}

fn slots_map(class: SizeClass) -> String {
    format!("slots-{}", class.slots())
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Far => "far",
        Scope::Near => "near",
    }
}

fn lookup_chain(scope: Scope, by: By) -> String {
    let suffix = match by {
        By::Address => "address",
        By::NodePort => "port",
    };
    format!("{}-{suffix}", scope_name(scope))
}

fn sticky_chain(seconds: u32, scope: Scope, by: By) -> String {
    format!("sticky-{seconds}-{}", lookup_chain(scope, by))
}

fn remember_chain(seconds: u32, by: By) -> String {
    let suffix = match by {
        By::Address => "address",
        By::NodePort => "port",
    };
    format!("{REMEMBER}-{seconds}-{suffix}")
}

fn offset(scope: Scope) -> u32 {
    match scope {
        Scope::Far => 0,
        Scope::Near => NEAR_OFFSET,
    }
}

fn by(frontend: Frontend) -> By {
    if frontend.address.is_some() {
        By::Address
    } else {
        By::NodePort
    }
}
