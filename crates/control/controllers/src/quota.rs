//! Says in the status of each ResourceQuota what is used of what it limits.
//!
//! State: quotas, and every object in their namespaces. A quota is counted anew when something comes or goes in its
//! namespace, or changes in what it uses; in namespaces without quotas nothing is looked at. What counts is decided in
//! [`usage`]. Refusing what goes beyond a quota is the server's.
//!
//! Source: `pkg/controller/resourcequota`.

mod usage;

use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Change, Client};
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{Map, Object, ObjectKey, Status, Value};
use cloudeck_schema::ResourceInfo;
use cloudeck_task::Scope;

use crate::clock::{Clock, Now};
use crate::everything::Everything;
use crate::kinds;
use crate::view::{Facts as _, View, Whole};
use crate::write;
use usage::{Amounts, Limits};

const WORKERS: usize = 2;

#[derive(Clone)]
pub(crate) struct Quotas {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    quotas: View<Whole>,
    everything: Everything,
    queue: WorkQueue<ObjectKey>,
    clock: Clock,
}

impl Quotas {
    /// Registers with views and informers; [`Quotas::run`] starts the work.
    pub(crate) fn new(client: Client, quotas: &View<Whole>, everything: &Everything, clock: Clock) -> Self {
        let inner = Arc::new(Inner {
            client,
            quotas: quotas.clone(),
            everything: everything.clone(),
            queue: WorkQueue::new(),
            clock,
        });
        let queue = inner.queue.clone();
        quotas.on_change(move |update| {
            if update.new.is_some() {
                queue.add(update.key.clone());
            }
        });
        let taker = Arc::clone(&inner);
        everything.on_change(move |info, change| taker.take(info, change));
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "resourcequota-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    fn take(&self, info: &'static ResourceInfo, change: &Change) {
        if !info.namespaced {
            return;
        }
        let quotas = self.quotas.list_namespace(&change.key.namespace);
        if quotas.is_empty() || !self.is_counted_otherwise(info, change) {
            return;
        }
        for quota in quotas {
            self.queue.add(quota.object().key.clone());
        }
    }

    /// Whether the change may change a sum.
    fn is_counted_otherwise(&self, info: &ResourceInfo, change: &Change) -> bool {
        let (Some(old), Some(new)) = (&change.old, &change.new) else {
            return true;
        };
        if old.uid != new.uid {
            return true;
        }
        let now = (self.clock)();
        let (old, new) = (old.tree(), new.tree());
        usage::has_more_than_a_count(info)
            && (usage::of(info, &old, now) != usage::of(info, &new, now)
                || usage::is_scoped_otherwise(info, &old, &new)
                || usage::overdue(info, &old) != usage::overdue(info, &new))
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(quota) = self.quotas.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let (tree, now) = (quota.object().tree(), (self.clock)());
        let limits = Limits::read(&tree);
        let mut used = limits.unused(&self.everything);
        let mut again: Option<Now> = None;
        for (info, informer) in self.everything.informers() {
            if !info.namespaced || !limits.concern(info) {
                continue;
            }
            for object in informer.list_namespace(&key.namespace) {
                again = again
                    .into_iter()
                    .chain(limits.add(info, &object, now, &mut used))
                    .min();
            }
        }
        self.write(&tree, &limits, &used).await?;
        Ok(again.map_or(Requeue::OnChange, |at| {
            let left = u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0);
            Requeue::After(Duration::from_millis(left.saturating_add(1)))
        }))
    }

    async fn write(&self, quota: &Value, limits: &Limits, used: &Amounts) -> Result<(), Status> {
        let status = |name| usage::amounts(quota.at(&["status", name]));
        let is_set = |name| quota.at(&["status", name]).is_some();
        if is_set("hard") && is_set("used") && status("hard") == limits.hard && status("used") == *used {
            return Ok(());
        }
        let mut tree = quota.clone();
        tree.set_at(&["status", "hard"], to_value(&limits.hard));
        tree.set_at(&["status", "used"], to_value(used));
        let outcome = write::update(&self.client, &kinds::resource_quotas(), "status", &tree).await;
        write::absent_is_fine(outcome.map(|_| ()))
    }
}

fn to_value(amounts: &Amounts) -> Value {
    let mut map = Map::new();
    for (name, amount) in amounts {
        map.insert(name.clone(), amount.to_string().into());
    }
    map.into()
}

impl Limits {
    /// Adds what the object uses of what is limited; tells when it will count no longer, if that is a matter of time.
    fn add(&self, info: &ResourceInfo, object: &Object, now: Now, used: &mut Amounts) -> Option<Now> {
        let tree = object.tree();
        if !self.are_about(info, &tree) {
            return None;
        }
        for (name, amount) in usage::of(info, &tree, now) {
            if let Some(sum) = used.get_mut(&name) {
                *sum = if sum.is_zero() { amount } else { *sum + amount };
            }
        }
        usage::overdue(info, &tree).filter(|at| *at >= now)
    }
}
