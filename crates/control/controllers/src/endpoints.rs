//! Where Services lead: EndpointSlices and Endpoints of the pods they select, and slices of hand-written Endpoints.
//!
//! A pod's change is written at once: the queue coalesces changes, nothing waits for a batch.
//! Deviation from upstream: none of the delays of its `--endpoint-updates-batch-period`.

mod legacy;
mod mirror;
mod packing;
pub(crate) mod service;
mod slice;
mod slices;

pub(crate) use legacy::LegacyEndpoints;
pub(crate) use mirror::Mirror;
pub(crate) use slice::Slice;
pub(crate) use slices::EndpointSlices;

use std::sync::Arc;

use cloudeck_controller::WorkQueue;
use cloudeck_machinery::{Map, ObjectKey, Value};

use crate::pod::Pod;
use crate::view::{Update, View};
use service::{Family, Service};

const HEADLESS: &str = "service.kubernetes.io/headless";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Puts the Services that a pod's change concerns into the queue.
fn wake(queue: &WorkQueue<ObjectKey>, services: &View<Service>, update: &Update<'_, Pod>) {
    if let (Some(old), Some(new)) = (update.old, update.new)
        && !matters(old, new)
    {
        return;
    }
    for service in services.list_namespace(&update.key.namespace) {
        if update.sides().any(|pod| service.selects(pod)) {
            queue.add(service.object.key.clone());
        }
    }
}

/// Whether a pod's endpoint could look different.
fn matters(old: &Pod, new: &Pod) -> bool {
    let seen = |pod: &Pod| (pod.ready, pod.deleting, pod.is_finished());
    seen(old) != seen(new)
        || old.ips != new.ips
        || old.node != new.node
        || (&old.hostname, &old.subdomain) != (&new.hostname, &new.subdomain)
        || old.object.labels != new.object.labels
        || old.object.uid != new.object.uid
}

/// The Service's pods that have an address, in a stable order. Pods that are ending count only `with_ending`.
fn addressed(pods: &View<Pod>, service: &Service, with_ending: bool) -> Vec<Arc<Pod>> {
    let all = pods.list_namespace(&service.object.key.namespace);
    all.into_iter()
        .filter(|pod| service.selects(pod) && !pod.is_finished() && !pod.ips.is_empty())
        .filter(|pod| with_ending || !pod.deleting)
        .collect()
}

fn address_of(pod: &Pod, family: Family) -> Option<&str> {
    let mut addresses = pod.ips.iter().map(compact_str::CompactString::as_str);
    addresses.find(|address| Family::of(address) == family)
}

/// A Service's labels without those that the controllers set themselves.
fn labels_of(service: &Service, reserved: &[&str]) -> Value {
    let labels = service
        .tree
        .at(&["metadata", "labels"])
        .and_then(Value::as_object);
    let mut kept = labels.cloned().unwrap_or_else(Map::new);
    kept.retain(|key, _| key != HEADLESS && !reserved.contains(&key));
    let mut labels = Value::Object(kept);
    if !service.has_address() {
        labels.set_at(&[HEADLESS], "");
    }
    labels
}

/// The latest of what may have made a write necessary: the Service's creation and its pods' readiness.
fn trigger_time(service: &Service, pods: &[Arc<Pod>]) -> Option<String> {
    let created = crate::replicaset::facts::time_at(&service.tree, &["metadata", "creationTimestamp"]);
    let ready = pods.iter().filter_map(|pod| pod.ready_since);
    ready.chain(created).max().map(|time| time.to_string())
}
