//! From Services and EndpointSlices to what the kernel should hold, and what differs from what it holds. Pure.
//!
//! A [`Frontend`] is an address and port that clients connect to. Two Services may want the same one (an external
//! address, say): it belongs to the first by namespace and name until that one gives it up. Recomputing is per
//! Service; [`Model::take_delta`] tells the difference for the frontends touched since the last time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;

use cloudeck_net::conntrack::{Connections, Tracked};

use crate::slots::{self, Endpoint, SizeClass};
use crate::view::{EndpointSliceView, ObjectKey, Protocol, ServiceView};

mod frontend;
#[cfg(test)]
mod tests;

pub use frontend::{Frontend, FrontendRules, Refusal, Scope, frontends};

/// Something that changed in the API, or the end of its initial state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A Service is as told, or is gone (or has no address any more).
    Service(ObjectKey, Option<ServiceView>),
    /// An EndpointSlice is as told, or is gone.
    EndpointSlice(ObjectKey, Option<EndpointSliceView>),
    /// Everything that exists has been told. Before this, what an earlier life installed stays in force.
    Synced,
}

/// An element of one of the table's sets and maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// A slot leads to an endpoint.
    Slot {
        /// Of which map.
        class: SizeClass,
        /// Which service address.
        frontend: Frontend,
        /// For whom.
        scope: Scope,
        /// Its number.
        slot: u32,
        /// Where to.
        endpoint: Endpoint,
    },
    /// Clients of the frontend stick to their endpoints.
    Sticky {
        /// Which service address.
        frontend: Frontend,
        /// For whom.
        scope: Scope,
        /// Until they have been silent for so long.
        seconds: u32,
    },
    /// Where clients of the frontend were sent is remembered.
    Remembered {
        /// Which service address.
        frontend: Frontend,
        /// Until they have been silent for so long.
        seconds: u32,
    },
    /// There is nobody to answer.
    Refused {
        /// Which service address.
        frontend: Frontend,
        /// How to say so.
        refusal: Refusal,
    },
    /// A local endpoint, which may connect to itself through a Service.
    Hairpin(Ipv4Addr),
    /// A Service's own address.
    ClusterIp(Ipv4Addr),
    /// Another address of a Service.
    ExternalIp(Ipv4Addr),
}

/// Clients that stick to an endpoint that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleAffinity {
    /// The service address.
    pub frontend: Frontend,
    /// The endpoint.
    pub endpoint: Endpoint,
}

/// What has to change in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Elements that go.
    pub remove: Vec<Entry>,
    /// Elements that come.
    pub add: Vec<Entry>,
    /// Tracked connections that lead nowhere any more.
    pub stale_connections: BTreeSet<Connections>,
    /// Sticky clients that lead nowhere any more.
    pub stale_affinity: BTreeSet<StaleAffinity>,
}

impl Delta {
    /// Whether nothing has to change.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.add.is_empty()
            && self.stale_connections.is_empty()
            && self.stale_affinity.is_empty()
    }
}

/// Where the model stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Endpoints with this node name are local.
    pub name: String,
    /// An endpoint with this address is the node itself and needs no hairpin.
    pub address: Ipv4Addr,
}

/// All Services and endpoints, and what of them is installed.
#[derive(Debug)]
pub struct Model {
    node: NodeView,
    services: HashMap<ObjectKey, ServiceView>,
    slices: HashMap<ObjectKey, BTreeMap<String, EndpointSliceView>>,
    /// Which Service a slice belonged to when it was last told of.
    slice_owners: HashMap<ObjectKey, ObjectKey>,
    wanted: HashMap<ObjectKey, BTreeMap<Frontend, FrontendRules>>,
    claims: HashMap<Frontend, BTreeSet<ObjectKey>>,
    installed: BTreeMap<Frontend, FrontendRules>,
    hairpins: Counted,
    cluster_ips: Counted,
    external_ips: Counted,
    touched: BTreeSet<Frontend>,
}

/// Addresses that several frontends need, with how many do.
#[derive(Debug, Default)]
struct Counted(BTreeMap<Ipv4Addr, usize>);

impl Model {
    /// Without any Service.
    pub fn new(node: NodeView) -> Self {
        Self {
            node,
            services: HashMap::new(),
            slices: HashMap::new(),
            slice_owners: HashMap::new(),
            wanted: HashMap::new(),
            claims: HashMap::new(),
            installed: BTreeMap::new(),
            hairpins: Counted::default(),
            cluster_ips: Counted::default(),
            external_ips: Counted::default(),
            touched: BTreeSet::new(),
        }
    }

    /// Takes note of a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Service(key, Some(service)) => {
                self.services.insert(key.clone(), service);
                self.refresh(&key);
            }
            Change::Service(key, None) => {
                self.services.remove(&key);
                self.refresh(&key);
            }
            Change::EndpointSlice(key, slice) => {
                for service in self.place_slice(key, slice) {
                    self.refresh(&service);
                }
            }
            Change::Synced => {}
        }
    }

    /// What differs from what was installed the last time; from now on that counts as installed.
    pub fn take_delta(&mut self) -> Delta {
        let mut delta = Delta::default();
        for frontend in std::mem::take(&mut self.touched) {
            let new = self.effective(frontend).cloned();
            let old = match &new {
                Some(rules) => self.installed.insert(frontend, rules.clone()),
                None => self.installed.remove(&frontend),
            };
            if old == new {
                continue;
            }
            compare(frontend, old.as_ref(), new.as_ref(), &mut delta);
            // First up, then down: what is needed before and after is not touched.
            self.count(frontend, new.as_ref(), Counted::up, &mut delta.add);
            self.count(frontend, old.as_ref(), Counted::down, &mut delta.remove);
        }
        delta
    }

    /// Everything that should be installed; counts as installed from now on.
    pub fn take_all(&mut self) -> Vec<Entry> {
        self.take_delta();
        let mut entries: Vec<Entry> = Vec::new();
        for (frontend, rules) in &self.installed {
            entries.extend(entries_of(*frontend, rules));
        }
        entries.extend(self.hairpins.0.keys().copied().map(Entry::Hairpin));
        entries.extend(self.cluster_ips.0.keys().copied().map(Entry::ClusterIp));
        entries.extend(self.external_ips.0.keys().copied().map(Entry::ExternalIp));
        entries
    }

    /// Which of the datagram connections that the kernel tracks lead to no endpoint of their Service: what an earlier
    /// life of the proxy left, as it could not see the endpoints go.
    pub fn stale_among(&self, tracked: &[Tracked]) -> BTreeSet<Connections> {
        let mut stale = BTreeSet::new();
        for connection in tracked
            .iter()
            .filter(|tracked| tracked.protocol == Protocol::Udp.number())
        {
            let (address, port) = connection.destination;
            let (answerer, answering_port) = connection.answered_by;
            let translated = connection.answered_by != connection.destination;
            let by_address = Frontend {
                address: Some(address),
                protocol: Protocol::Udp,
                port,
            };
            // An untranslated connection to the port may be anybody's, on any address.
            let by_port = translated.then_some(Frontend {
                address: None,
                ..by_address
            });
            let mut found = [Some(by_address), by_port].into_iter().flatten();
            let Some((frontend, rules)) =
                found.find_map(|frontend| Some((frontend, self.installed.get(&frontend)?)))
            else {
                continue;
            };
            let answerer = Endpoint {
                address: answerer,
                port: answering_port,
            };
            if rules.refusal.is_none() && !rules.endpoints().any(|endpoint| endpoint == answerer) {
                stale.insert(frontend.connections(Some(answerer)));
            }
        }
        stale
    }

    /// Puts a slice where it belongs and tells which Services that concerns.
    fn place_slice(&mut self, key: ObjectKey, slice: Option<EndpointSliceView>) -> BTreeSet<ObjectKey> {
        let mut concerned = BTreeSet::new();
        let owner = slice
            .as_ref()
            .map(|slice| ObjectKey::new(&key.namespace, &slice.service));
        let former = match &owner {
            Some(owner) => self.slice_owners.insert(key.clone(), owner.clone()),
            None => self.slice_owners.remove(&key),
        };
        if let Some(former) = former {
            if let Some(slices) = self.slices.get_mut(&former) {
                slices.remove(&key.name);
                if slices.is_empty() {
                    self.slices.remove(&former);
                }
            }
            concerned.insert(former);
        }
        if let (Some(owner), Some(slice)) = (owner, slice) {
            self.slices
                .entry(owner.clone())
                .or_default()
                .insert(key.name, slice);
            concerned.insert(owner);
        }
        concerned
    }

    fn refresh(&mut self, key: &ObjectKey) {
        let wanted = self.services.get(key).map(|service| {
            let slices = self.slices.get(key).into_iter().flat_map(BTreeMap::values);
            frontends(service, slices, &self.node)
        });
        let wanted = wanted.unwrap_or_default();
        let former = self.wanted.remove(key).unwrap_or_default();
        for frontend in former.keys().filter(|frontend| !wanted.contains_key(frontend)) {
            if let Some(claims) = self.claims.get_mut(frontend) {
                claims.remove(key);
                if claims.is_empty() {
                    self.claims.remove(frontend);
                }
            }
            self.touched.insert(*frontend);
        }
        for (frontend, rules) in &wanted {
            if former.get(frontend) != Some(rules) {
                self.claims.entry(*frontend).or_default().insert(key.clone());
                self.touched.insert(*frontend);
            }
        }
        if !wanted.is_empty() {
            self.wanted.insert(key.clone(), wanted);
        }
    }

    fn effective(&self, frontend: Frontend) -> Option<&FrontendRules> {
        let owner = self.claims.get(&frontend)?.first()?;
        self.wanted.get(owner)?.get(&frontend)
    }

    fn count(
        &mut self,
        frontend: Frontend,
        rules: Option<&FrontendRules>,
        turn: fn(&mut Counted, Ipv4Addr) -> bool,
        entries: &mut Vec<Entry>,
    ) {
        let Some(rules) = rules else { return };
        for address in &rules.hairpins {
            if turn(&mut self.hairpins, *address) {
                entries.push(Entry::Hairpin(*address));
            }
        }
        let Some(address) = frontend.address else { return };
        if rules.is_cluster_ip {
            if turn(&mut self.cluster_ips, address) {
                entries.push(Entry::ClusterIp(address));
            }
        } else if turn(&mut self.external_ips, address) {
            entries.push(Entry::ExternalIp(address));
        }
    }
}

impl Counted {
    /// Whether this is the first one to need it.
    fn up(&mut self, address: Ipv4Addr) -> bool {
        let count = self.0.entry(address).or_default();
        *count += 1;
        *count == 1
    }

    /// Whether nobody needs it any more.
    fn down(&mut self, address: Ipv4Addr) -> bool {
        let Some(count) = self.0.get_mut(&address) else {
            return false;
        };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.0.remove(&address);
        }
        last
    }
}

fn compare(frontend: Frontend, old: Option<&FrontendRules>, new: Option<&FrontendRules>, delta: &mut Delta) {
    let entries = |rules: Option<&FrontendRules>| -> BTreeSet<Entry> {
        rules
            .map(|rules| entries_of(frontend, rules).collect())
            .unwrap_or_default()
    };
    let (before, after) = (entries(old), entries(new));
    delta.remove.extend(before.difference(&after));
    delta.add.extend(after.difference(&before));

    let endpoints = |rules: Option<&FrontendRules>| -> BTreeSet<Endpoint> {
        rules.map(|rules| rules.endpoints().collect()).unwrap_or_default()
    };
    let (had, has) = (endpoints(old), endpoints(new));
    let is_sticky = old.is_some_and(|rules| rules.affinity_seconds.is_some());
    for endpoint in had.difference(&has).copied() {
        if is_sticky {
            delta.stale_affinity.insert(StaleAffinity { frontend, endpoint });
        }
        // TCP tells its client by itself; a datagram's client would go on sending to nobody.
        if frontend.protocol == Protocol::Udp {
            delta
                .stale_connections
                .insert(frontend.connections(Some(endpoint)));
        }
    }
    if frontend.protocol == Protocol::Udp && had.is_empty() && !has.is_empty() {
        delta.stale_connections.insert(frontend.connections(None));
    }
}

fn entries_of(frontend: Frontend, rules: &FrontendRules) -> impl Iterator<Item = Entry> {
    let scopes = [(Scope::Far, Some(&rules.far)), (Scope::Near, rules.near.as_ref())];
    let mut entries = Vec::new();
    for (scope, endpoints) in scopes {
        let Some(endpoints) = endpoints.filter(|endpoints| !endpoints.is_empty()) else {
            continue;
        };
        let class = SizeClass::of(endpoints.len());
        let slots = (0..).zip(slots::assign(endpoints));
        entries.extend(slots.map(|(slot, endpoint)| Entry::Slot {
            class,
            frontend,
            scope,
            slot,
            endpoint,
        }));
        entries.extend(rules.affinity_seconds.map(|seconds| Entry::Sticky {
            frontend,
            scope,
            seconds,
        }));
    }
    if rules.endpoints().next().is_some() {
        entries.extend(
            rules
                .affinity_seconds
                .map(|seconds| Entry::Remembered { frontend, seconds }),
        );
    }
    entries.extend(rules.refusal.map(|refusal| Entry::Refused { frontend, refusal }));
    entries.into_iter()
}
