//! Events as upstream's components write them: equal events of one object are counted, not repeated.
//!
//! Source: `client-go/tools/record`: events are `v1.Event`s named `<object>.<hex>`, correlated by source, object,
//! type, reason and message; an equal one raises `count` and `lastTimestamp` by a patch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloudeck_client::Client;
use cloudeck_machinery::{GroupVersionResource, Object, Reason, Time, Value, value};
use cloudeck_task::Scope;
use tokio::sync::mpsc;

/// Events that wait to be written; more are dropped, as upstream does when its broadcaster is full.
const WAITING_EVENTS: usize = 1000;
/// How many distinct events are remembered for counting.
const REMEMBERED_EVENTS: usize = 4096;
/// Upstream forgets an event's series after this long.
const SERIES_LIFETIME: Duration = Duration::from_mins(10);

/// `Normal` or `Warning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The object an event is about, as `v1.ObjectReference`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ObjectReference {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// `spec.containers{name}` for container events, else empty.
    pub field_path: String,
}

impl ObjectReference {
    /// A reference to a cached object of a known kind.
    pub fn to_object(api_version: &str, kind: &str, object: &Object) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: object.key.namespace.to_string(),
            name: object.key.name.to_string(),
            uid: object.uid.to_string(),
            resource_version: object.revision.to_string(),
            field_path: String::new(),
        }
    }
}

#[derive(Debug)]
struct Occurrence {
    object: ObjectReference,
    event_type: EventType,
    reason: &'static str,
    message: String,
    at: SystemTime,
}

/// Writes events in the background. Cheap to clone. Losing an event is allowed; blocking a controller is not.
#[derive(Clone)]
pub struct EventRecorder {
    sender: mpsc::Sender<Occurrence>,
    clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl EventRecorder {
    /// Starts the writer. `component` and `host` become the event's source; `host` may be empty.
    pub fn start(scope: &Scope, client: Client, component: &'static str, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_EVENTS);
        let writer = Writer {
            client,
            component,
            host: host.to_owned(),
            series: HashMap::new(),
            last_name: 0,
        };
        scope.spawn_until_shutdown("event writer", writer.run(receiver));
        Self {
            sender,
            clock: Arc::new(SystemTime::now),
        }
    }

    pub fn event(
        &self,
        object: ObjectReference,
        event_type: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let occurrence = Occurrence {
            object,
            event_type,
            reason,
            message: message.into(),
            at: (self.clock)(),
        };
        if self.sender.try_send(occurrence).is_err() {
            tracing::debug!(reason, "event dropped: the writer is behind");
        }
    }
}

struct Writer {
    client: Client,
    component: &'static str,
    host: String,
    series: HashMap<SeriesKey, Series>,
    /// Nanoseconds in the latest name, so that names never repeat.
    last_name: u128,
}

type SeriesKey = (ObjectReference, EventType, &'static str, String);

struct Series {
    name: String,
    count: i64,
    last: SystemTime,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Occurrence>) {
        while let Some(occurrence) = receiver.recv().await {
            self.write(occurrence).await;
        }
    }

    async fn write(&mut self, occurrence: Occurrence) {
        let events = GroupVersionResource::new("", "v1", "events");
        let namespace = namespace_of(&occurrence.object).to_owned();
        // The object's revision does not part series.
        let key_object = ObjectReference {
            resource_version: String::new(),
            ..occurrence.object.clone()
        };
        let key = (
            key_object,
            occurrence.event_type,
            occurrence.reason,
            occurrence.message.clone(),
        );
        if let Some(series) = self.series.get_mut(&key) {
            let age = occurrence.at.duration_since(series.last).unwrap_or_default();
            if age < SERIES_LIFETIME {
                series.count += 1;
                series.last = occurrence.at;
                let patch = value!({"count": (series.count), "lastTimestamp": (Time::from(occurrence.at).to_string())});
                match self
                    .client
                    .merge_patch(&events, &namespace, &series.name, "", &patch)
                    .await
                {
                    Ok(_) => return,
                    // Expired or deleted: write it anew.
                    Err(status) if status.reason == Reason::NotFound => {}
                    Err(status) => return log_failure(&status),
                }
            }
        }
        let name = event_name(&mut self.last_name, &occurrence);
        let event = self.event_object(&name, &namespace, &occurrence);
        match self.client.create(&events, &namespace, &event).await {
            Ok(_) => {
                if self.series.len() >= REMEMBERED_EVENTS {
                    let at = occurrence.at;
                    self.series.retain(|_, series| {
                        at.duration_since(series.last).unwrap_or_default() < SERIES_LIFETIME / 2
                    });
                }
                self.series.insert(
                    key,
                    Series {
                        name,
                        count: 1,
                        last: occurrence.at,
                    },
                );
            }
            Err(status) => log_failure(&status),
        }
    }

    fn event_object(&self, name: &str, namespace: &str, occurrence: &Occurrence) -> Value {
        let Occurrence {
            object,
            event_type,
            reason,
            message,
            at,
        } = occurrence;
        let mut involved = Value::object();
        for (member, text) in [
            ("kind", &object.kind),
            ("namespace", &object.namespace),
            ("name", &object.name),
            ("uid", &object.uid),
            ("apiVersion", &object.api_version),
            ("resourceVersion", &object.resource_version),
            ("fieldPath", &object.field_path),
        ] {
            if !text.is_empty() {
                involved.set_at(&[member], text.as_str());
            }
        }
        let at = Time::from(*at).to_string();
        let mut event = value!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": (name), "namespace": (namespace)},
            "involvedObject": (involved),
            "reason": (*reason), "message": (message.as_str()), "type": (event_type.as_str()),
            "source": {"component": (self.component)},
            "reportingComponent": (self.component), "reportingInstance": (self.host.as_str()),
            "firstTimestamp": (at.as_str()), "lastTimestamp": (at.as_str()), "count": 1
        });
        if !self.host.is_empty() {
            event.set_at(&["source", "host"], self.host.as_str());
        }
        event
    }
}

fn log_failure(status: &cloudeck_machinery::Status) {
    tracing::debug!(error = %status, "event not written");
}

/// Events of cluster-scoped objects live in `default`.
fn namespace_of(object: &ObjectReference) -> &str {
    if object.namespace.is_empty() {
        "default"
    } else {
        &object.namespace
    }
}

/// `<object>.<nanoseconds in hex>`, later than `last`, which it becomes.
fn event_name(last: &mut u128, occurrence: &Occurrence) -> String {
    let nanos = occurrence
        .at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    *last = nanos.max(*last + 1);
    format!("{}.{:x}", occurrence.object.name, *last)
}

#[cfg(test)]
mod tests;
