//! Ends events some time, usually an hour, after they were last written.
//!
//! State: events. Each is looked at when its time has come and not before; one that was written again meanwhile waits
//! anew. Upstream's server does this by leases of etcd.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::Client;
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Reason, Status, Time, Value, value};
use cloudeck_task::Scope;

use crate::clock::{Clock, Now};
use crate::kinds;
use crate::view::{Facts, View, Whole};
use crate::write;

const WORKERS: usize = 1;

#[derive(Clone)]
pub(crate) struct EventExpiry {
    client: Client,
    events: View<Whole>,
    queue: WorkQueue<ObjectKey>,
    lifetime: Duration,
    clock: Clock,
}

impl EventExpiry {
    /// Registers with the view; [`EventExpiry::run`] starts the work.
    pub(crate) fn new(client: Client, events: &View<Whole>, lifetime: Duration, clock: Clock) -> Self {
        let queue: WorkQueue<ObjectKey> = WorkQueue::new();
        let waker = queue.clone();
        events.on_change(move |update| {
            // A rewritten event is found so when its first time has come.
            if update.old.is_none() && update.new.is_some() {
                waker.add(update.key.clone());
            }
        });
        Self {
            client,
            events: events.clone(),
            queue,
            lifetime,
            clock,
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, "event-expiry", WORKERS, queue, move |key| {
            let this = Arc::clone(&this);
            async move { this.reconcile(&key).await }
        });
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(event) = self.events.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let object = event.object();
        if let Some(left) = time_left(&object.tree(), self.lifetime, (self.clock)()) {
            return Ok(Requeue::After(left));
        }
        let preconditions = value!({
            "uid": (object.uid.clone()), "resourceVersion": (object.revision.to_string())
        });
        let options = value!({"preconditions": (preconditions)});
        match write::delete_with(&self.client, &kinds::events(), key, &options).await {
            // Written again: its time begins anew, and the view will show it.
            Err(status) if status.reason == Reason::Conflict => Ok(Requeue::After(Duration::from_secs(1))),
            outcome => outcome.map(|()| Requeue::OnChange),
        }
    }
}

/// How long the event has yet; `None` when its time is over.
fn time_left(event: &Value, lifetime: Duration, now: Now) -> Option<Duration> {
    let times: [&[&str]; 4] = [
        &["metadata", "creationTimestamp"],
        &["lastTimestamp"],
        &["eventTime"],
        &["series", "lastObservedTime"],
    ];
    let times = times
        .iter()
        .filter_map(|path| Time::parse(event.str_at(path)?).ok());
    now.until(
        times.max()?,
        i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX),
    )
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;

    #[test]
    fn the_latest_time_of_an_event_counts() {
        let event = json::parse(
            br#"{"metadata":{"creationTimestamp":"1970-01-01T00:00:00Z"},"lastTimestamp":"1970-01-01T00:30:00Z"}"#,
        )
        .unwrap();
        let hour = Duration::from_hours(1);
        assert_eq!(
            time_left(&event, hour, Now(3_600_000)),
            Some(Duration::from_mins(30))
        );
        assert_eq!(time_left(&event, hour, Now(5_400_000)), None);
    }
}
