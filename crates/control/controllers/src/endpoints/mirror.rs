//! Mirrors hand-written Endpoints into EndpointSlices, because that is what proxies read.
//!
//! State: Endpoints whose Service has no selector, and the slices made of them. Endpoints that elect leaders or say that
//! they are not to be mirrored are left alone.
//!
//! Source: `pkg/controller/endpointslicemirroring`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{Map, ObjectKey, Status, Value, names::parse_ip, value};
use cloudeck_task::Scope;

use super::TRIGGER_TIME;
use super::packing::{self, Dress, Group};
use super::service::{Family, Service};
use super::slice::{MANAGED_BY, SERVICE_NAME, Slice};
use super::slices::{skeleton, write_slices};
use crate::pending::{self, Pending};
use crate::view::{Facts, View, Whole};
use crate::write;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Addresses of one subset; so each becomes one slice.
const CAPACITY: usize = 1000;
const WORKERS: usize = 1;

#[derive(Clone)]
pub(crate) struct Mirror {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    events: EventRecorder,
    services: View<Service>,
    endpoints: View<Whole>,
    slices: View<Slice>,
    queue: WorkQueue<ObjectKey>,
    pending: Pending,
}

impl Mirror {
    /// Registers with the views; [`Mirror::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        scope: &Scope,
        services: &View<Service>,
        endpoints: &View<Whole>,
        slices: &View<Slice>,
    ) -> Self {
        let events = EventRecorder::start(scope, client.clone(), "endpoint-slice-mirroring-controller", "");
        let inner = Arc::new(Inner {
            client,
            events,
            services: services.clone(),
            endpoints: endpoints.clone(),
            slices: slices.clone(),
            queue: WorkQueue::new(),
            pending: Pending::default(),
        });
        let queue = inner.queue.clone();
        services.on_change(move |update| queue.add(update.key.clone()));
        let queue = inner.queue.clone();
        endpoints.on_change(move |update| queue.add(update.key.clone()));
        let queue = inner.queue.clone();
        slices.on_change(move |update| {
            for slice in update.sides().filter(|slice| slice.is_managed_by(MANAGER)) {
                let service = slice.object.label(SERVICE_NAME).unwrap_or_default();
                queue.add(ObjectKey::new(&update.key.namespace, service));
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(
            scope,
            "endpointslicemirroring-controller",
            WORKERS,
            queue,
            move |key| {
                let inner = Arc::clone(&inner);
                async move { inner.reconcile(&key).await }
            },
        );
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let service = self.services.get(key).filter(|service| !has_selector(service));
        let endpoints = self.endpoints.get(key).filter(|endpoints| is_mirrored(endpoints));
        let present = self
            .slices
            .list_namespace(&key.namespace)
            .into_iter()
            .filter(|slice| {
                slice.is_managed_by(MANAGER) && slice.object.label(SERVICE_NAME) == Some(&key.name)
            });
        let present: Vec<Value> = present.map(|slice| slice.object.tree()).collect();
        let (Some(_), Some(endpoints)) = (service, endpoints) else {
            let writes = packing::Writes {
                delete: present,
                ..packing::Writes::default()
            };
            write_slices(&self.client, key, "", writes, &self.pending).await?;
            return Ok(Requeue::OnChange);
        };
        let object = endpoints.object();
        if !self.pending.is_settled(&object.uid, &self.slices) {
            return Ok(Requeue::After(pending::PATIENCE));
        }
        let tree = object.tree();
        let mirrored = groups(&tree);
        self.tell_skipped(object, &mirrored);
        let owner = write::controller_reference("v1", "Endpoints", object);
        let writes = packing::pack(mirrored.groups, present, &dress(&tree, key, owner));
        write_slices(&self.client, key, &object.uid, writes, &self.pending).await?;
        Ok(Requeue::OnChange)
    }

    fn tell_skipped(&self, endpoints: &cloudeck_machinery::Object, mirrored: &Mirrored) {
        let about = || ObjectReference::to_object("v1", "Endpoints", endpoints);
        if mirrored.invalid > 0 {
            let count = mirrored.invalid;
            let message = format!("Skipped {count} invalid IP addresses when mirroring to EndpointSlices");
            self.events
                .event(about(), EventType::Warning, "InvalidIPAddress", message);
        }
        if mirrored.surplus > 0 {
            let message = format!(
                "A max of {CAPACITY} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                mirrored.surplus
            );
            self.events
                .event(about(), EventType::Warning, "TooManyAddressesToMirror", message);
        }
    }
}

fn has_selector(service: &Service) -> bool {
    service.tree.at(&["spec", "selector"]).is_some()
}

fn is_mirrored(endpoints: &Whole) -> bool {
    let object = endpoints.object();
    object.label(SKIP) != Some("true") && object.tree().at(&["metadata", "annotations", LEADER]).is_none()
}

struct Mirrored {
    groups: Vec<Group>,
    invalid: usize,
    surplus: usize,
}

fn groups(endpoints: &Value) -> Mirrored {
    let mut by_kind: BTreeMap<String, Group> = BTreeMap::new();
    let (mut invalid, mut surplus) = (0, 0);
    for subset in endpoints.items_at(&["subsets"]) {
        let ready = subset
            .items_at(&["addresses"])
            .iter()
            .map(|address| (address, true));
        let not_ready = subset
            .items_at(&["notReadyAddresses"])
            .iter()
            .map(|address| (address, false));
        let ports: Vec<Value> = subset.items_at(&["ports"]).iter().map(slice_port).collect();
        let kind: String = ports.iter().map(Value::to_string).collect();
        let mut taken = 0;
        for (address, ready) in ready.chain(not_ready) {
            let Some(ip) = address.str_at(&["ip"]).and_then(parse_ip) else {
                invalid += 1;
                continue;
            };
            if taken == CAPACITY {
                surplus += 1;
                continue;
            }
            taken += 1;
            let ip = ip.to_string();
            let family = Family::of(&ip).as_str();
            let group = by_kind
                .entry(format!("{family} {kind}"))
                .or_insert_with(|| Group {
                    address_type: family,
                    ports: ports.clone(),
                    endpoints: Vec::new(),
                });
            group.endpoints.push(endpoint(address, &ip, ready));
        }
    }
    Mirrored {
        groups: by_kind.into_values().collect(),
        invalid,
        surplus,
    }
}

fn slice_port(port: &Value) -> Value {
    let mut port = port.clone();
    if port.at(&["name"]).is_none() {
        port.set_at(&["name"], "");
    }
    port
}

fn endpoint(address: &Value, ip: &str, ready: bool) -> Value {
    let mut endpoint = value!({"addresses": [(ip)], "conditions": {"ready": (ready)}});
    for field in ["targetRef", "nodeName", "hostname"] {
        if let Some(value) = address.at(&[field]) {
            endpoint.set_at(&[field], value.clone());
        }
    }
    endpoint
}

fn dress(endpoints: &Value, key: &ObjectKey, owner: Value) -> Dress {
    let part = |field| {
        let map = endpoints.at(&["metadata", field]).and_then(Value::as_object);
        map.cloned().unwrap_or_else(Map::new)
    };
    let mut labels = Value::Object(part("labels"));
    labels.set_at(&[SERVICE_NAME], key.name.clone());
    labels.set_at(&[MANAGED_BY], MANAGER);
    let mut annotations = part("annotations");
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    Dress {
        labels,
        annotations: Value::Object(annotations),
        stamp: None,
        skeleton: skeleton(owner, key),
        capacity: CAPACITY,
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;

    #[test]
    fn addresses_of_both_families_and_states_are_mirrored() {
        let text = r#"{"subsets":[{"addresses":[{"ip":"192.0.2.1","hostname":"h"},{"ip":"2001:db8::1"}],
            "notReadyAddresses":[{"ip":"192.0.2.2"},{"ip":"nonsense"}],"ports":[{"port":80,"protocol":"TCP"}]}]}"#;
        let mirrored = groups(&json::parse(text.as_bytes()).unwrap());
        assert_eq!(
            (mirrored.groups.len(), mirrored.invalid, mirrored.surplus),
            (2, 1, 0)
        );
        let v4 = &mirrored.groups[0];
        assert_eq!(
            v4.ports[0].to_string(),
            r#"{"name":"","port":80,"protocol":"TCP"}"#
        );
        assert_eq!(
            v4.endpoints[1].to_string(),
            r#"{"addresses":["192.0.2.2"],"conditions":{"ready":false}}"#
        );
    }
}
