//! Says which ServiceCIDRs are ready to give addresses, and holds back the end of those whose addresses are in use.
//!
//! State: the ranges, and while one of them is to go, the addresses in use. What is to be done is decided in [`decide`].
//! Giving addresses is the server's.
//!
//! Source: `pkg/controller/servicecidrs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Client, Informer};
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{Object, ObjectKey, Status, Time, Value, value};
use cloudeck_task::Scope;

use crate::clock::{Clock, Now};
use crate::everything::Everything;
use crate::kinds;
use crate::write;

const WORKERS: usize = 1;
const GROUP: &str = "networking.k8s.io";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long whoever gives addresses may take to hear that a range is to go.
const GRACE_SECONDS: i64 = 10;

#[derive(Clone)]
pub(crate) struct ServiceRanges {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    everything: Everything,
    queue: WorkQueue<ObjectKey>,
    clock: Clock,
}

impl ServiceRanges {
    /// Registers with the informers; [`ServiceRanges::run`] starts the work.
    pub(crate) fn new(client: Client, everything: &Everything, clock: Clock) -> Self {
        let inner = Arc::new(Inner {
            client,
            everything: everything.clone(),
            queue: WorkQueue::new(),
            clock,
        });
        let taker = Arc::clone(&inner);
        everything.on_change(move |info, change| {
            let came_or_went = change.old.is_none() || change.new.is_none();
            match (info.group, info.kind) {
                (GROUP, "ServiceCIDR") => {
                    taker.queue.add(change.key.clone());
                    // It may be what another one waits for.
                    taker.look_at_leaving();
                }
                (GROUP, "IPAddress") if came_or_went => taker.look_at_leaving(),
                _ => {}
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "service-cidr-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    fn informer(&self, kind: &str) -> &Informer {
        let found = self.everything.by_kind(GROUP, kind);
        &found
            .expect("a kind of the schema that can be watched and deleted")
            .1
    }

    fn look_at_leaving(&self) {
        for range in self.informer("ServiceCIDR").list() {
            if is_leaving(&range.tree()) {
                self.queue.add(range.key.clone());
            }
        }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let ranges = self.informer("ServiceCIDR");
        let Some(range) = ranges.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let tree = range.tree();
        let others: Vec<Prefix> = ranges
            .list()
            .iter()
            .filter(|it| it.key != *key)
            .flat_map(prefixes)
            .collect();
        let is_used = |prefix: &Prefix| {
            let addresses = self.informer("IPAddress").list();
            addresses.iter().filter_map(given).any(|address| {
                prefix.contains(address) && !others.iter().any(|other| other.contains(address))
            })
        };
        let action = decide(&tree, &prefixes(&range), &others, is_used, (self.clock)());
        let resource = kinds::service_cidrs();
        let outcome = match action {
            Action::None => return Ok(Requeue::OnChange),
            Action::Wait(time) => return Ok(Requeue::After(time)),
            Action::Write(tree) => write::update(&self.client, &resource, "", &tree).await,
            Action::Say(tree) => write::update(&self.client, &resource, "status", &tree).await,
        };
        write::absent_is_fine(outcome.map(|_| ()))?;
        Ok(Requeue::OnChange)
    }
}

/// The address, if the server has given it to a service.
fn given(address: &Arc<Object>) -> Option<IpAddr> {
    let manager = ["metadata", "labels", "ipaddress.kubernetes.io/managed-by"];
    let is_given = address.tree().str_at(&manager) == Some("ipallocator.k8s.io");
    address.key.name.parse().ok().filter(|_| is_given)
}

fn prefixes(range: &Arc<Object>) -> Vec<Prefix> {
    let tree = range.tree();
    let texts = tree.items_at(&["spec", "cidrs"]).iter().filter_map(Value::as_str);
    texts.filter_map(Prefix::read).collect()
}

/// The addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    address: IpAddr,
    length: u32,
}

impl Prefix {
    fn read(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        Some(Self {
            address: address.parse().ok()?,
            length: length.parse().ok()?,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        // Bits that differ, at the upper end of the widest number.
        let differing = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => u128::from(own.to_bits() ^ other.to_bits()) << 96,
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differing.leading_zeros() >= self.length
    }

    fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

#[derive(Debug, PartialEq)]
enum Action {
    None,
    Wait(Duration),
    /// The object with other metadata.
    Write(Value),
    /// The object with another status.
    Say(Value),
}

fn is_leaving(range: &Value) -> bool {
    range.at(&["metadata", "deletionTimestamp"]).is_some()
}

/// The next thing to do about a range. A range that is to go may when others cover it, or none of its addresses is used
/// that is not in another one, too.
fn decide(
    range: &Value,
    own: &[Prefix],
    others: &[Prefix],
    is_used: impl Fn(&Prefix) -> bool,
    now: Now,
) -> Action {
    let finalizers = range.items_at(&["metadata", "finalizers"]);
    let is_held = finalizers.iter().any(|name| name.as_str() == Some(FINALIZER));
    if !is_leaving(range) {
        if !is_held {
            let mut held = range.clone();
            let all = finalizers.iter().cloned().chain([Value::from(FINALIZER)]);
            held.set_at(&["metadata", "finalizers"], all.collect::<Vec<_>>());
            return Action::Write(held);
        }
        return say(range, ("True", "", "Kubernetes Service CIDR is ready"), now);
    }
    let is_covered = |prefix: &Prefix| others.iter().any(|other| other.covers(prefix));
    if !own.iter().all(is_covered) && own.iter().any(is_used) {
        let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return say(range, ("False", "Terminating", why), now);
    }
    let since = range.str_at(&["metadata", "deletionTimestamp"]);
    let since = since.and_then(|text| Time::parse(text).ok());
    if let Some(left) = since.and_then(|since| now.until(since, GRACE_SECONDS)) {
        return Action::Wait(left);
    }
    if !is_held {
        return Action::None;
    }
    let mut free = range.clone();
    let rest = finalizers.iter().filter(|name| name.as_str() != Some(FINALIZER));
    free.set_at(&["metadata", "finalizers"], rest.cloned().collect::<Vec<_>>());
    Action::Write(free)
}

/// Sets the condition, unless it says so already; its time holds while its status does.
fn say(range: &Value, (word, reason, message): (&str, &str, &str), now: Now) -> Action {
    let mut conditions = range.items_at(&["status", "conditions"]).to_vec();
    let is_it = |condition: &Value| condition.str_at(&["type"]) == Some("Ready");
    let before = conditions.iter().find(|condition| is_it(condition)).cloned();
    let text = |name: &str| {
        before
            .as_ref()
            .and_then(|before| before.str_at(&[name]))
            .unwrap_or_default()
    };
    if before.is_some() && (text("status"), text("reason"), text("message")) == (word, reason, message) {
        return Action::None;
    }
    let since = if text("status") == word {
        text("lastTransitionTime").to_owned()
    } else {
        now.timestamp()
    };
    let condition = value!({
        "type": "Ready", "status": (word), "reason": (reason), "message": (message), "lastTransitionTime": (since)
    });
    match conditions.iter_mut().find(|condition| is_it(condition)) {
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
    let mut told = range.clone();
    told.set_at(&["status", "conditions"], conditions);
    Action::Say(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::read(text).unwrap()
    }

    fn range(leaving_since: i64) -> Value {
        let mut range = value!({"metadata": {"name": "r", "finalizers": ["other", (FINALIZER)]}, "spec": {}});
        if leaving_since >= 0 {
            range.set_at(
                &["metadata", "deletionTimestamp"],
                Now(leaving_since * 1000).timestamp(),
            );
        }
        range
    }

    #[test]
    fn prefixes_contain_what_begins_alike() {
        let check = |text: &str, address: &str, wanted: bool| {
            assert_eq!(
                prefix(text).contains(address.parse().unwrap()),
                wanted,
                "{text} {address}"
            );
        };
        check("10.0.0.0/24", "10.0.0.255", true);
        check("10.0.0.0/24", "10.0.1.0", false);
        check("0.0.0.0/0", "255.0.0.1", true);
        check("10.0.0.1/32", "10.0.0.0", false);
        check("fd00::/64", "fd00::1", true);
        check("fd00::/64", "fd00:0:0:1::1", false);
        check("::/0", "10.0.0.1", false);
        assert!(prefix("10.0.0.0/16").covers(&prefix("10.0.1.0/24")));
        assert!(!prefix("10.0.1.0/24").covers(&prefix("10.0.0.0/16")));
    }

    #[test]
    fn a_range_is_held_before_it_is_ready() {
        let own = [prefix("10.0.0.0/24")];
        let decide = |range: &Value| decide(range, &own, &[], |_| true, Now(0));
        let bare = value!({"metadata": {"name": "r"}, "spec": {}});
        let Action::Write(held) = decide(&bare) else {
            panic!("not held")
        };
        assert_eq!(
            held.items_at(&["metadata", "finalizers"])[0].as_str(),
            Some(FINALIZER)
        );
        let Action::Say(ready) = decide(&held) else {
            panic!("not told")
        };
        assert_eq!(
            ready.items_at(&["status", "conditions"])[0].str_at(&["status"]),
            Some("True")
        );
        assert_eq!(decide(&ready), Action::None);
    }

    #[test]
    fn a_range_in_use_stays_and_says_why() {
        let (own, wide) = ([prefix("10.0.0.0/24")], [prefix("10.0.0.0/16")]);
        let Action::Say(told) = decide(&range(0), &own, &[], |_| true, Now(60_000)) else {
            panic!("not told")
        };
        let condition = &told.items_at(&["status", "conditions"])[0];
        assert_eq!(condition.str_at(&["reason"]), Some("Terminating"));
        let covered = decide(&range(0), &own, &wide, |_| true, Now(60_000));
        assert!(matches!(covered, Action::Write(_)), "{covered:?}");
    }

    #[test]
    fn a_range_that_nobody_uses_goes_after_its_grace() {
        let own = [prefix("10.0.0.0/24")];
        let at = |seconds: i64| decide(&range(0), &own, &[], |_| false, Now(seconds * 1000));
        assert_eq!(at(4), Action::Wait(Duration::from_secs(6)));
        let Action::Write(free) = at(11) else {
            panic!("not let go")
        };
        assert_eq!(free.items_at(&["metadata", "finalizers"]), [Value::from("other")]);
    }
}
