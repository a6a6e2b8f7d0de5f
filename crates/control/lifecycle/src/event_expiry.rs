//! Deletes events an hour after they were last written.
//!
//! State: of each event its key, its uid and when it falls due; one timer stands for the earliest. Upstream's API
//! server stores events under a lease, which the API does not show, so here a client deletes them.
//!
//! There is no such controller upstream, so none has a role for it: it acts as the garbage collector, whose role lets
//! it delete everything.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloudeck_client::{Change, Client, Informer};
use cloudeck_machinery::{ObjectKey, Reason, Status, Value, value};
use cloudeck_task::Scope;
use compact_str::CompactString;
use tokio::sync::Notify;

use crate::caches::{self, Caches};
use crate::clock::{Clock, Now};
use crate::kinds;
use crate::write;

/// When to try again what the server refused.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct EventExpiry {
    client: Client,
    events: Informer,
    lifetime: Duration,
    clock: Clock,
    due: Arc<Mutex<Due>>,
    earlier: Arc<Notify>,
}

/// When events fall due.
#[derive(Debug, Default)]
struct Due {
    by_time: BTreeSet<(Now, ObjectKey)>,
    by_key: HashMap<ObjectKey, (Now, CompactString)>,
}

impl EventExpiry {
    pub(crate) fn new(client: Client, caches: &Caches, lifetime: Duration, clock: Clock) -> Self {
        Self {
            client,
            events: caches.informer(&kinds::events()),
            lifetime,
            clock,
            due: Arc::default(),
            earlier: Arc::default(),
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let this = self.clone();
        caches::follow(scope, "event times", &self.events, move |change| {
            this.event_changed(&change);
        });
        let this = self.clone();
        scope.spawn_until_shutdown("event expiry", async move { this.expire().await });
    }

    fn event_changed(&self, change: &Change) {
        let at = change.new.as_deref().map(|event| {
            let written = last_written(&event.tree()).unwrap_or_else(|| (self.clock)());
            (written.plus(self.lifetime), event.uid.clone())
        });
        let first = self.due().set(change.key.clone(), at);
        if first {
            self.earlier.notify_one();
        }
    }

    async fn expire(self) {
        loop {
            let now = (self.clock)();
            let next = self.due().next(now);
            match next {
                Next::Nothing => self.earlier.notified().await,
                Next::Wait(delay) => {
                    // Whichever comes first; the loop looks again in both cases.
                    let _ = tokio::time::timeout(delay, self.earlier.notified()).await;
                }
                Next::Delete(key, uid) => {
                    if let Err(error) = self.delete(&key, &uid).await {
                        tracing::debug!(name = %key, %error, "expired event not deleted; trying again");
                        self.due().set(key, Some((now.plus(RETRY), uid)));
                    }
                }
            }
        }
    }

    async fn delete(&self, key: &ObjectKey, uid: &str) -> Result<(), Status> {
        let options = value!({"preconditions": {"uid": (uid)}});
        match write::delete(&self.client, &kinds::events(), key, &options).await {
            // Another event has its name now.
            Err(status) if status.reason == Reason::Conflict => Ok(()),
            outcome => outcome,
        }
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, PartialEq)]
enum Next {
    Nothing,
    Wait(Duration),
    Delete(ObjectKey, CompactString),
}

impl Due {
    /// Sets when an event falls due, `None` when it is gone. Tells whether it is now the first.
    fn set(&mut self, key: ObjectKey, at: Option<(Now, CompactString)>) -> bool {
        if let Some((before, _)) = self.by_key.remove(&key) {
            self.by_time.remove(&(before, key.clone()));
        }
        let Some((at, uid)) = at else { return false };
        self.by_key.insert(key.clone(), (at, uid));
        self.by_time.insert((at, key.clone()));
        self.by_time.first().is_some_and(|(_, first)| *first == key)
    }

    /// Takes out an event that is due.
    fn next(&mut self, now: Now) -> Next {
        let Some((at, _)) = self.by_time.first() else {
            return Next::Nothing;
        };
        if now < *at {
            return Next::Wait(now.until(*at));
        }
        let taken = self
            .by_time
            .pop_first()
            .and_then(|(_, key)| self.by_key.remove_entry(&key));
        taken.map_or(Next::Nothing, |(key, (_, uid))| Next::Delete(key, uid))
    }
}

/// The latest time that the event tells of itself. It may be told under the names of either group.
fn last_written(event: &Value) -> Option<Now> {
    const TIMES: [&[&str]; 5] = [
        &["lastTimestamp"],
        &["deprecatedLastTimestamp"],
        &["series", "lastObservedTime"],
        &["eventTime"],
        &["metadata", "creationTimestamp"],
    ];
    TIMES
        .iter()
        .filter_map(|path| event.str_at(path).and_then(Now::parse))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_falls_due_first_and_a_rewritten_one_later() {
        let key = |name| ObjectKey::new("ns", name);
        let mut due = Due::default();
        assert_eq!(due.next(Now(0)), Next::Nothing);
        assert!(due.set(key("b"), Some((Now(2_000), "ub".into()))));
        assert!(due.set(key("a"), Some((Now(1_000), "ua".into()))));
        assert!(
            !due.set(key("a"), Some((Now(3_000), "ua".into()))),
            "it has moved behind"
        );
        assert_eq!(due.next(Now(500)), Next::Wait(Duration::from_millis(1_500)));
        assert_eq!(due.next(Now(2_000)), Next::Delete(key("b"), "ub".into()));
        due.set(key("a"), None);
        assert_eq!(due.next(Now(9_000)), Next::Nothing);
    }

    #[test]
    fn the_latest_time_counts() {
        let event = value!({
            "metadata": {"creationTimestamp": "1970-01-01T00:00:01Z"}, "eventTime": null,
            "lastTimestamp": "1970-01-01T00:00:05Z"
        });
        assert_eq!(last_written(&event), Some(Now(5_000)));
        let series = value!({
            "eventTime": "1970-01-01T00:00:01.500000Z", "series": {"lastObservedTime": "1970-01-01T00:00:09.250000Z"}
        });
        assert_eq!(last_written(&series), Some(Now(9_250)));
    }
}
