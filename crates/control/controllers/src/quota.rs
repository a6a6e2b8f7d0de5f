//! Says in the status of each ResourceQuota what is used of what it limits.
//!
//! State: quotas, and every object in their namespaces. A quota is counted anew when something comes or goes in its
//! namespace, or changes in what it uses; in namespaces without quotas nothing is looked at. What counts is told by
//! [`cloudeck_kinds::quota`]. Refusing what goes beyond a quota is the server's.
//!
//! Source: `pkg/controller/resourcequota`.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Change, Client};
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_kinds::amounts::{self, Amounts};
use cloudeck_kinds::quota::{self, Scopes};
use cloudeck_machinery::{MicroTime, Object, ObjectKey, Quantity, Status, Value};
use cloudeck_schema::ResourceInfo;
use cloudeck_task::Scope;

use crate::clock::Clock;
use crate::everything::Everything;
use crate::kinds;
use crate::view::{Facts as _, View, Whole};
use crate::write;

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
        let (old, new) = (old.tree(), new.tree());
        // Of all other kinds, objects only count as such.
        let (group, plural) = (info.group, info.plural);
        if !group.is_empty() || !matches!(plural, "pods" | "services" | "persistentvolumeclaims") {
            return false;
        }
        let now = (self.clock)().micro_time();
        let used = |object| quota::used_by(group, plural, object, now);
        let differs_as_pod = quota::has_deadline(&old) != quota::has_deadline(&new)
            || quota::overdue(&old) != quota::overdue(&new);
        used(&old) != used(&new) || plural == "pods" && differs_as_pod
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(quota) = self.quotas.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let (tree, now) = (quota.object().tree(), (self.clock)().micro_time());
        let limits = Limits::read(&tree);
        let mut used = limits.unused(&self.everything);
        let mut again: Option<MicroTime> = None;
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
            let left = at.unix_micros().saturating_sub(now.unix_micros());
            Requeue::After(Duration::from_micros(u64::try_from(left).unwrap_or(0)) + Duration::from_millis(1))
        }))
    }

    async fn write(&self, quota: &Value, limits: &Limits, used: &Amounts) -> Result<(), Status> {
        let status = |name| amounts::read(quota.at(&["status", name]));
        let is_set = |name| quota.at(&["status", name]).is_some();
        if is_set("hard") && is_set("used") && status("hard") == limits.hard && status("used") == *used {
            return Ok(());
        }
        let mut tree = quota.clone();
        tree.set_at(&["status", "hard"], amounts::to_value(&limits.hard));
        tree.set_at(&["status", "used"], amounts::to_value(used));
        let outcome = write::update(&self.client, &kinds::resource_quotas(), "status", &tree).await;
        write::absent_is_fine(outcome.map(|_| ()))
    }
}

/// A quota's limits, and which objects they are about.
struct Limits {
    hard: Amounts,
    scopes: Scopes,
    /// What the status says is used.
    before: Amounts,
}

impl Limits {
    fn read(quota: &Value) -> Self {
        Self {
            hard: amounts::read(quota.at(&["spec", "hard"])),
            before: amounts::read(quota.at(&["status", "used"])),
            scopes: Scopes::of(quota),
        }
    }

    /// Zero of everything that is counted. What nobody counts stays as it was said before.
    fn unused(&self, everything: &Everything) -> Amounts {
        let is_counted = |name: &str| {
            let mut kinds = everything.informers().map(|(info, _)| *info);
            kinds.any(|info| info.namespaced && quota::counts(info.group, info.plural, name))
        };
        let names = self.hard.keys();
        names
            .filter_map(|name| {
                let start = if is_counted(name) {
                    Some(Quantity::ZERO)
                } else {
                    self.before.get(name).copied()
                };
                Some((name.clone(), start?))
            })
            .collect()
    }

    /// Whether objects of the kind use anything that is limited.
    fn concern(&self, info: &ResourceInfo) -> bool {
        let mut names = self.hard.keys();
        names.any(|name| quota::counts(info.group, info.plural, name))
    }

    /// Adds what the object uses of what is limited; tells when it will count no longer, if that is a matter of time.
    fn add(
        &self,
        info: &ResourceInfo,
        object: &Object,
        now: MicroTime,
        used: &mut Amounts,
    ) -> Option<MicroTime> {
        let tree = object.tree();
        if !self.scopes.hold(info.group, info.plural, &tree) {
            return None;
        }
        for (name, amount) in quota::used_by(info.group, info.plural, &tree, now) {
            if let Some(sum) = used.get_mut(&name) {
                *sum = *sum + amount;
            }
        }
        let is_pod = info.group.is_empty() && info.plural == "pods";
        quota::overdue(&tree).filter(|at| is_pod && *at >= now)
    }
}
