//! The way between clients and server, which loses, delays and cuts what the seed says.
//!
//! [`Link`] is a [`Transport`] as the product's others are: in front of the real in-process one it puts a network. Each
//! request takes a moment both ways; in bad weather it is refused, or lost, or its answer is. What is answered is held
//! against the [`Book`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloudeck_apiserver::Server;
use cloudeck_auth::LocalIdentity;
use cloudeck_client::transport::BoxFuture;
use cloudeck_client::{Client, Request, Response, Transport, Verb, WatchStream};
use cloudeck_machinery::{Reason, Status};
use cloudeck_task::Scope;
use tokio::sync::oneshot;

use crate::book::Book;
use crate::dice::Dice;
use crate::host;
use crate::trace::Trace;
use crate::watching;

/// How likely what is, in a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Requests that never reach the server.
    pub(crate) refused: u64,
    /// Answers that never reach the client, after the request took effect.
    pub(crate) lost_answers: u64,
    /// Requests or answers that take seconds.
    pub(crate) delayed: u64,
    /// Events after which the watch is cut.
    pub(crate) cuts: u64,
    /// Watches that are told that they begin too long ago.
    pub(crate) too_old: u64,
}

/// What all links share. Cheap to clone; clones are the same network.
#[derive(Clone)]
pub(crate) struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    server: Mutex<Option<Upstream>>,
    weather: Mutex<Weather>,
    /// Requests under way.
    scope: Scope,
    seed: u64,
    book: Book,
    trace: Trace,
    /// When each request was made lately, for [`CIRCLES`].
    made: Mutex<HashMap<String, VecDeque<Duration>>>,
}

/// Nobody has to ask the same so often within ten seconds.
const CIRCLES: usize = 150;

/// The server that runs now, and the tasks that end with it.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) server: Server,
    pub(crate) scope: Scope,
}

impl Network {
    pub(crate) fn new(seed: u64, book: &Book, trace: &Trace) -> Self {
        Self {
            inner: Arc::new(Inner {
                server: Mutex::default(),
                weather: Mutex::default(),
                scope: Scope::root("network"),
                seed,
                book: book.clone(),
                trace: trace.clone(),
                made: Mutex::default(),
            }),
        }
    }

    /// Where requests go from now on; without a server they are refused.
    pub(crate) fn connect(&self, server: Option<Upstream>) {
        *lock(&self.inner.server) = server;
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *lock(&self.inner.weather) = weather;
    }

    /// A client under the identity. `name` says whose dice are thrown.
    pub(crate) fn client(&self, identity: LocalIdentity, name: &str) -> Client {
        let link = Link {
            network: self.clone(),
            identity,
            name: name.into(),
            dice: Mutex::new(Dice::of(self.inner.seed, name)),
        };
        Client::new(Arc::new(link))
    }

    pub(crate) fn weather(&self) -> Weather {
        *lock(&self.inner.weather)
    }

    /// Notices who runs in circles.
    fn made(&self, what: &str) {
        let now = host::elapsed();
        let mut made = lock(&self.inner.made);
        let times = made.entry(what.to_owned()).or_default();
        times.push_back(now);
        if times.len() <= CIRCLES {
            return;
        }
        let first = times.pop_front().unwrap_or_default();
        if now.saturating_sub(first) < Duration::from_secs(10) {
            times.clear();
            self.inner
                .trace
                .violation(format!("{what} is asked over and over again"));
        }
    }

    /// Hands a request to the server, which goes on with it whoever still waits.
    async fn deliver(
        &self,
        is_refused: bool,
        identity: LocalIdentity,
        name: &str,
        request: Request,
    ) -> Result<Response, Status> {
        if is_refused {
            return Err(refused());
        }
        let Upstream { server, scope } = self.upstream()?;
        let (sender, receiver) = oneshot::channel();
        let client = server.client(identity);
        let checked = Checked::new(self, name, &request);
        scope.spawn_until_shutdown("request", async move {
            let outcome = client.send(request).await;
            checked.answered(&outcome);
            // The network waits as long as the server lives.
            let _ = sender.send(outcome);
        });
        receiver.await.map_err(|_| broken())?
    }

    fn upstream(&self) -> Result<Upstream, Status> {
        lock(&self.inner.server).clone().ok_or_else(refused)
    }
}

/// One client's way to the server.
struct Link {
    network: Network,
    identity: LocalIdentity,
    name: Arc<str>,
    dice: Mutex<Dice>,
}

/// What happens to one request.
struct Fate {
    before: Duration,
    after: Duration,
    refused: bool,
    answer_lost: bool,
}

impl Link {
    fn fate(&self) -> Fate {
        let weather = self.network.weather();
        let mut dice = lock(&self.dice);
        let mut way = || {
            if dice.chance(weather.delayed) {
                dice.millis(100, 20_000)
            } else {
                dice.millis(0, 2)
            }
        };
        let (before, after) = (way(), way());
        Fate {
            before,
            after,
            refused: dice.chance(weather.refused),
            answer_lost: dice.chance(weather.lost_answers),
        }
    }

    async fn carry(&self, request: Request) -> Result<Response, Status> {
        let Fate {
            before,
            after,
            refused: is_refused,
            answer_lost,
        } = self.fate();
        let (sender, receiver) = oneshot::channel();
        let name = Arc::clone(&self.name);
        let (network, identity) = (self.network.clone(), self.identity.clone());
        // What is on its way arrives, whether or not the client lives that long.
        self.network.inner.scope.spawn("request", async move {
            wait(before).await;
            let delivered = network.deliver(is_refused, identity, &name, request).await;
            // The client may have given up.
            let _ = sender.send(delivered);
        });
        let outcome = receiver.await.map_err(|_| broken())?;
        wait(after).await;
        if answer_lost {
            return Err(broken());
        }
        outcome
    }

    async fn open(&self, request: Request) -> Result<WatchStream, Status> {
        let fate = self.fate();
        wait(fate.before).await;
        if fate.refused {
            return Err(refused());
        }
        let too_old = self.network.weather().too_old;
        if !request.params.resource_version.is_empty() && lock(&self.dice).chance(too_old) {
            let Request { resource, .. } = &request;
            self.trace(format!("{} watch {resource} is told 410", self.name));
            return Err(Status::new(
                Reason::Expired,
                "too old resource version: simulated",
            ));
        }
        let Upstream { server, scope } = self.network.upstream()?;
        let checker = watching::Checker::new(
            &self.network.inner.book,
            &self.network.inner.trace,
            &self.name,
            &request,
        );
        let client = server.client(self.identity.clone());
        let stream = tokio::select! {
            biased;
            () = scope.shutdown_requested() => return Err(broken()),
            stream = client.watch(request) => stream?,
        };
        let seed = lock(&self.dice).below(u64::MAX);
        let wire = watching::Wire {
            stream,
            checker,
            scope,
            network: self.network.clone(),
            dice: Dice::new(seed),
        };
        Ok(wire.into_stream())
    }

    fn trace(&self, line: String) {
        self.network.inner.trace.line(line);
    }
}

impl Transport for Link {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async move {
            let what = describe(&request);
            if request.verb != Verb::Create {
                self.network.made(&format!("{} {what}", self.name));
            }
            let outcome = self.carry(request).await;
            let how = match &outcome {
                Ok(_) => "ok".to_owned(),
                Err(status) => format!("{} {}", status.code, status.message),
            };
            self.trace(format!("{} {what}: {how}", self.name));
            outcome
        })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async move {
            let what = describe(&request);
            self.network.made(&format!("{} {what}", self.name));
            let outcome = self.open(request).await;
            let how = outcome.as_ref().err().map_or("ok", |status| &status.message);
            self.trace(format!("{} {what}: {how}", self.name));
            outcome
        })
    }
}

fn describe(request: &Request) -> String {
    let Request {
        verb,
        resource,
        namespace,
        name,
        subresource,
        ..
    } = request;
    let (verb, version) = (verb.as_str(), &request.params.resource_version);
    format!("{verb} {resource} {namespace}/{name} {subresource} {version}")
}

/// Holds an answer against the book.
struct Checked {
    book: Book,
    trace: Trace,
    what: String,
    /// The datastore's key, for requests of one object or its parts.
    prefix: Option<String>,
    verb: Verb,
    key: String,
    /// What had been told before the request was sent: nothing older may be answered.
    told: u64,
    consistent_list: bool,
    newest_told: u64,
    dry_run: bool,
}

impl Checked {
    fn new(network: &Network, name: &str, request: &Request) -> Self {
        let book = network.inner.book.clone();
        let prefix = watching::prefix_of(&request.resource);
        let key = key_of(prefix.as_deref(), &request.namespace, &request.name);
        let params = &request.params;
        let consistent_list = request.verb == Verb::List
            && params.resource_version.is_empty()
            && params.continue_token.is_empty()
            && params.limit.is_none()
            && params.label_selector.is_empty()
            && params.field_selector.is_empty()
            && request.namespace.is_empty();
        Self {
            told: book.told(&key),
            newest_told: book.newest_told(),
            trace: network.inner.trace.clone(),
            what: format!("{name} {}", describe(request)),
            prefix,
            verb: request.verb,
            dry_run: !params.dry_run.is_empty(),
            consistent_list,
            key,
            book,
        }
    }

    fn answered(&self, outcome: &Result<Response, Status>) {
        match outcome {
            Ok(Response::Object { object, .. }) if !self.dry_run => {
                let key = key_of(self.prefix.as_deref(), &object.key.namespace, &object.key.name);
                self.object(&key, object.revision);
            }
            Ok(Response::List(list)) if self.consistent_list => {
                let items = list.items.iter().map(|item| (&item.key, item.revision));
                let got: Vec<_> = items
                    .map(|(key, revision)| {
                        (
                            key_of(self.prefix.as_deref(), &key.namespace, &key.name),
                            revision,
                        )
                    })
                    .collect();
                self.list(&got, list.meta.revision);
            }
            Err(status)
                if status.reason == Reason::NotFound
                    && self.verb == Verb::Get
                    && self.told > 0
                    && self.is_live_since() =>
            {
                self.wrong("was answered that there is none");
            }
            _ => {}
        }
    }

    fn is_live_since(&self) -> bool {
        self.book.told(&self.key) == self.told
            && !self.book.deleted_since(&self.key, self.told.saturating_sub(1))
    }

    fn object(&self, key: &str, revision: u64) {
        let Some(prefix) = &self.prefix else { return };
        // Deletions answer the object as it was; what is being created may be a part of something else.
        if self.verb == Verb::Delete || !key.starts_with(prefix.as_str()) {
            return;
        }
        if !self.book.holds(key, revision) {
            self.wrong(&format!("was answered {key} at {revision}, which never was"));
        }
        if self.verb == Verb::Get && revision < self.told {
            let told = self.told;
            self.wrong(&format!("was answered {key} at {revision} after {told}"));
        }
        self.book.tell(key, revision);
    }

    fn list(&self, got: &[(String, u64)], revision: u64) {
        let Some(prefix) = &self.prefix else { return };
        if revision < self.newest_told {
            let told = self.newest_told;
            self.wrong(&format!("was answered a list at {revision} after {told}"));
        }
        let truth = self.book.at(prefix, revision);
        let same = truth.len() == got.len()
            && truth
                .iter()
                .zip(got)
                .all(|((key, (revision, _)), (other, at))| **key == **other && revision == at);
        if !same {
            let (truth, got) = (truth.len(), got.len());
            self.wrong(&format!(
                "was answered another list of {got} than the one of {truth} at {revision}"
            ));
        }
    }

    fn wrong(&self, how: &str) {
        self.trace.violation(format!("{} {how}", self.what));
    }
}

/// The datastore's key without its root.
pub(crate) fn key_of(prefix: Option<&str>, namespace: &str, name: &str) -> String {
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{}{namespace}{slash}{name}", prefix.unwrap_or_default())
}

async fn wait(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

fn refused() -> Status {
    Status::new(
        Reason::ServiceUnavailable,
        "cannot reach the API server: connection refused (simulated)",
    )
}

fn broken() -> Status {
    Status::new(
        Reason::ServerTimeout,
        "the connection broke while reading the answer (simulated)",
    )
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
