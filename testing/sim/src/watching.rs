//! Watches on their way to a client: delayed and cut as the seed says, and checked event by event.
//!
//! A watch must deliver what the book says happened, all of it, once, in order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cloudeck_client::{Request, WatchEvent, WatchStream};
use cloudeck_machinery::{GroupVersionResource, Object, json};
use cloudeck_task::Scope;
use futures_util::{StreamExt, stream};

use crate::book::{Book, Entry};
use crate::dice::Dice;
use crate::network::{Network, key_of};
use crate::trace::Trace;

/// One in so many objects is compared whole.
const COMPARED: u64 = 16;

/// The wire between the server's watch and its reader.
pub(crate) struct Wire {
    pub(crate) stream: WatchStream,
    pub(crate) checker: Checker,
    /// Ends with the server.
    pub(crate) scope: Scope,
    pub(crate) network: Network,
    pub(crate) dice: Dice,
}

impl Wire {
    pub(crate) fn into_stream(self) -> WatchStream {
        Box::pin(stream::unfold(Some(self), |wire| async move {
            let mut wire = wire?;
            let event = wire.next().await?;
            let weather = wire.network.weather();
            let delay = if wire.dice.chance(weather.delayed) {
                wire.dice.millis(100, 20_000)
            } else {
                wire.dice.millis(0, 1)
            };
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let cut = wire.dice.chance(weather.cuts);
            Some((event, (!cut).then_some(wire)))
        }))
    }

    async fn next(&mut self) -> Option<WatchEvent> {
        let event = tokio::select! {
            biased;
            () = self.scope.shutdown_requested() => None,
            event = self.stream.next() => event,
        }?;
        self.checker.take(&event, &mut self.dice);
        Some(event)
    }
}

/// Which objects a watch is about, as far as the simulation understands selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    All,
    Namespace(String),
    Node(String),
    /// A label's key and value.
    Label(String, String),
}

/// Follows one watch in the book.
pub(crate) struct Checker {
    book: Book,
    trace: Trace,
    what: String,
    /// `None` when the watch is not understood: then only order is looked at.
    kind: Option<(String, Filter)>,
    /// Whether the stored bytes are what is served.
    same_version: bool,
    newest: u64,
    phase: Phase,
}

enum Phase {
    /// Until the bookmark that ends the initial events.
    Initial(BTreeMap<String, u64>),
    /// The next change of the kind to come.
    Live(usize),
    Unchecked,
}

/// Where objects of the resource are stored: `core/pods/`.
pub(crate) fn prefix_of(resource: &GroupVersionResource) -> Option<String> {
    let info = cloudeck_schema::resource(&resource.group, &resource.version, &resource.resource)?;
    let group = if info.storage.group.is_empty() {
        "core"
    } else {
        info.storage.group
    };
    Some(format!("{group}/{}/", info.storage.plural))
}

impl Checker {
    pub(crate) fn new(book: &Book, trace: &Trace, name: &str, request: &Request) -> Self {
        let kind = prefix_of(&request.resource).zip(Filter::of(request));
        let params = &request.params;
        let from = params
            .resource_version
            .parse::<u64>()
            .ok()
            .filter(|from| *from > 0);
        let phase = match (&kind, params.send_initial_events, from) {
            (Some(_), Some(true), _) => Phase::Initial(BTreeMap::new()),
            (Some((kind, _)), _, Some(from)) => Phase::Live(book.position(kind, from)),
            _ => Phase::Unchecked,
        };
        Self {
            book: book.clone(),
            trace: trace.clone(),
            what: format!("the watch of {name} for {}", request.resource),
            kind,
            same_version: is_storage_version(&request.resource),
            newest: 0,
            phase,
        }
    }

    fn take(&mut self, event: &WatchEvent, dice: &mut Dice) {
        let (word, object) = match event {
            WatchEvent::Added(object) => ("ADDED", object),
            WatchEvent::Modified(object) => ("MODIFIED", object),
            WatchEvent::Deleted(object) => ("DELETED", object),
            WatchEvent::Bookmark {
                revision,
                initial_events_end,
            } => return self.bookmark(*revision, *initial_events_end),
            WatchEvent::Error(status) => {
                return self.trace.line(format!("{} ends: {}", self.what, status.message));
            }
        };
        let (key, revision) = (&object.key, object.revision);
        self.trace.line(format!("{} {word} {key} {revision}", self.what));
        match &mut self.phase {
            Phase::Initial(found) => {
                let kind = self.kind.as_ref().map(|(kind, _)| kind.as_str());
                let key = key_of(kind, &key.namespace, &key.name);
                if word == "DELETED" {
                    found.remove(&key);
                } else {
                    found.insert(key, revision);
                }
            }
            Phase::Live(_) => self.live(word, object, dice),
            Phase::Unchecked => {}
        }
        if !matches!(self.phase, Phase::Initial(_)) {
            if revision < self.newest {
                self.wrong(&format!("went back from {} to {revision}", self.newest));
            }
            self.newest = self.newest.max(revision);
        }
    }

    fn bookmark(&mut self, revision: u64, initial_events_end: bool) {
        self.newest = self.newest.max(revision);
        let Some((kind, filter)) = self.kind.clone() else {
            return;
        };
        match &self.phase {
            Phase::Initial(found) if initial_events_end => {
                let truth = self.book.at(&kind, revision);
                let truth: BTreeMap<String, u64> = truth
                    .into_iter()
                    .filter(|(key, (_, value))| filter.selects(key, value))
                    .map(|(key, (revision, _))| (key.to_string(), revision))
                    .collect();
                if *found != truth {
                    let odd = truth.iter().find(|(key, at)| found.get(*key) != Some(at));
                    let surplus = found.keys().find(|key| !truth.contains_key(*key));
                    self.wrong(&format!(
                        "began with another state than that of {revision}: misses {odd:?}, has {surplus:?} besides"
                    ));
                }
                self.phase = Phase::Live(self.book.position(&kind, revision));
            }
            Phase::Live(position) => {
                let missed = self.upcoming(&kind, &filter, *position);
                if let Some((_, entry, word)) = missed
                    && entry.revision <= revision
                {
                    let Entry {
                        key, revision: at, ..
                    } = entry;
                    self.wrong(&format!("claims to be at {revision} without {word} {key} {at}"));
                }
            }
            _ => {}
        }
    }

    /// The next change that the reader has to hear of, and as what.
    fn upcoming(
        &self,
        kind: &str,
        filter: &Filter,
        mut position: usize,
    ) -> Option<(usize, Entry, &'static str)> {
        loop {
            let entry = self.book.entry(kind, position)?;
            let selects =
                |value: &Option<Bytes>| value.as_ref().is_some_and(|it| filter.selects(&entry.key, it));
            let word = match (selects(&entry.prev), selects(&entry.value)) {
                (false, false) => None,
                (false, true) => Some("ADDED"),
                (true, true) => Some("MODIFIED"),
                (true, false) => Some("DELETED"),
            };
            position += 1;
            if let Some(word) = word {
                return Some((position, entry, word));
            }
        }
    }

    fn live(&mut self, word: &str, object: &Arc<Object>, dice: &mut Dice) {
        let Phase::Live(position) = self.phase else { return };
        let Some((kind, filter)) = self.kind.clone() else {
            return;
        };
        let key = key_of(Some(&kind), &object.key.namespace, &object.key.name);
        let revision = object.revision;
        let Some((next, entry, expected)) = self.upcoming(&kind, &filter, position) else {
            return self.wrong(&format!("delivers {word} {key} {revision}, which never was"));
        };
        self.phase = Phase::Live(next);
        if expected != word || *entry.key != *key || entry.revision != revision {
            let Entry {
                key: other,
                revision: at,
                ..
            } = &entry;
            self.wrong(&format!(
                "delivers {word} {key} {revision} where {expected} {other} {at} comes next"
            ));
            // One word about it is enough.
            self.phase = Phase::Unchecked;
            return;
        }
        let content = if word == "DELETED" {
            &entry.prev
        } else {
            &entry.value
        };
        if self.same_version && dice.below(COMPARED) == 0 && !is_same(object, content.as_deref()) {
            self.wrong(&format!("delivers {key} {revision} with other content"));
        }
    }

    fn wrong(&self, how: &str) {
        self.trace.violation(format!("{} {how}", self.what));
    }
}

impl Filter {
    fn of(request: &Request) -> Option<Self> {
        let params = &request.params;
        if !params.label_selector.is_empty() {
            let (key, value) = params.label_selector.split_once('=')?;
            let alone = params.field_selector.is_empty() && request.namespace.is_empty();
            return alone.then(|| Self::Label(key.to_owned(), value.to_owned()));
        }
        let by_field = params.field_selector.strip_prefix("spec.nodeName=");
        match (by_field, request.namespace.as_str()) {
            (Some(node), "") => Some(Self::Node(node.to_owned())),
            (None, "") if params.field_selector.is_empty() => Some(Self::All),
            (None, namespace) if params.field_selector.is_empty() => {
                Some(Self::Namespace(namespace.to_owned()))
            }
            _ => None,
        }
    }

    fn selects(&self, key: &str, value: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => key.split('/').nth(2) == Some(namespace),
            Self::Label(label, wanted) => json::parse(value)
                .is_ok_and(|tree| tree.str_at(&["metadata", "labels", label]) == Some(wanted)),
            Self::Node(node) => {
                json::parse(value).is_ok_and(|tree| tree.str_at(&["spec", "nodeName"]) == Some(node))
            }
        }
    }
}

fn is_storage_version(resource: &GroupVersionResource) -> bool {
    cloudeck_schema::resource(&resource.group, &resource.version, &resource.resource).is_some_and(|info| {
        info.storage.group == info.group
            && info.storage.version == info.version
            && info.storage.plural == info.plural
    })
}

fn is_same(object: &Object, stored: Option<&[u8]>) -> bool {
    let Some(stored) = stored.and_then(|bytes| json::parse(bytes).ok()) else {
        return false;
    };
    let mut served = object.tree();
    served.remove_at(&["metadata", "resourceVersion"]);
    served == stored
}
