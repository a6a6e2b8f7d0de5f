//! Keeps the Endpoints object of every Service that selects pods, for clients that know no slices.
//!
//! State: such Services, their pods, and the Endpoints of the same name. Endpoints of Services without a selector are
//! the user's. A deleted Service's Endpoints are deleted.
//!
//! Source: `pkg/controller/endpoint`. Deviation: beyond 1,000 addresses upstream keeps a share of each subset, here the
//! first ones stay, ready ones first.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Status, Value, value};
use cloudeck_task::Scope;

use super::service::Service;
use super::{TRIGGER_TIME, address_of, addressed, labels_of, trigger_time, wake};
use crate::kinds;
use crate::pod::Pod;
use crate::view::{Facts, View, Whole};
use crate::write;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const CAPACITY: usize = 1000;
const WORKERS: usize = 2;

#[derive(Clone)]
pub(crate) struct LegacyEndpoints {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    services: View<Service>,
    pods: View<Pod>,
    endpoints: View<Whole>,
    queue: WorkQueue<ObjectKey>,
}

impl LegacyEndpoints {
    /// Registers with the views; [`LegacyEndpoints::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        services: &View<Service>,
        pods: &View<Pod>,
        endpoints: &View<Whole>,
    ) -> Self {
        let inner = Arc::new(Inner {
            client,
            services: services.clone(),
            pods: pods.clone(),
            endpoints: endpoints.clone(),
            queue: WorkQueue::new(),
        });
        let queue = inner.queue.clone();
        services.on_change(move |update| queue.add(update.key.clone()));
        let (queue, known) = (inner.queue.clone(), services.clone());
        pods.on_change(move |update| wake(&queue, &known, update));
        let queue = inner.queue.clone();
        endpoints.on_change(move |update| {
            if update.new.is_none() {
                queue.add(update.key.clone());
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "endpoint-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let present = self.endpoints.get(key);
        let Some(service) = self.services.get(key) else {
            if let Some(present) = present {
                write::delete(&self.client, &kinds::endpoints(), key, &present.object().uid).await?;
            }
            return Ok(Requeue::OnChange);
        };
        if service.selector.is_none() || service.deleting {
            return Ok(Requeue::OnChange);
        }
        let pods = addressed(&self.pods, &service, service.publishes_not_ready);
        let present = present.map(|present| present.object().tree());
        let is_new = present.is_none();
        let Some(wanted) = decide(&service, &pods, present) else {
            return Ok(Requeue::OnChange);
        };
        let outcome = if is_new {
            self.client
                .create(&kinds::endpoints(), &key.namespace, &wanted)
                .await
        } else {
            write::update(&self.client, &kinds::endpoints(), "", &wanted).await
        };
        match outcome {
            Err(status) if write::is_namespace_terminating(&status) => {}
            outcome => drop(outcome?),
        }
        Ok(Requeue::OnChange)
    }
}

/// The Endpoints as they are to be written; `None` when there is nothing to write.
fn decide(service: &Service, pods: &[Arc<Pod>], present: Option<Value>) -> Option<Value> {
    let (subsets, truncated) = subsets(service, pods);
    let mut labels = labels_of(service, &[MANAGED_BY]);
    labels.set_at(&[MANAGED_BY], MANAGER);
    let mut wanted = present.clone().unwrap_or_else(|| {
        value!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": (service.name()), "namespace": (service.object.key.namespace.clone())}
        })
    });
    if subsets.is_empty() {
        wanted.remove_at(&["subsets"]);
    } else {
        wanted.set_at(&["subsets"], subsets);
    }
    wanted.set_at(&["metadata", "labels"], labels);
    if truncated {
        wanted.set_at(&["metadata", "annotations", OVER_CAPACITY], "truncated");
    } else {
        wanted.remove_at(&["metadata", "annotations", OVER_CAPACITY]);
    }
    if present.is_some_and(|present| present == wanted) {
        return None;
    }
    if let Some(time) = trigger_time(service, pods) {
        wanted.set_at(&["metadata", "annotations", TRIGGER_TIME], time);
    }
    Some(wanted)
}

#[derive(Default)]
struct Subset {
    ports: Vec<Value>,
    ready: Vec<Value>,
    not_ready: Vec<Value>,
}

/// One subset for every set of ports that pods have, and whether addresses were left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<Value>, bool) {
    let Some(family) = service.families().first().copied() else {
        return (Vec::new(), false);
    };
    let mut by_ports: BTreeMap<String, Subset> = BTreeMap::new();
    for pod in pods {
        let Some(address) = address_of(pod, family) else {
            continue;
        };
        let ports = service.ports_on(pod);
        if ports.is_empty() && !service.is_headless() {
            continue;
        }
        let subset = by_ports
            .entry(ports.iter().map(Value::to_string).collect())
            .or_default();
        subset.ports = ports;
        let address = address_value(service, pod, address);
        if service.publishes_not_ready || pod.ready {
            subset.ready.push(address);
        } else {
            subset.not_ready.push(address);
        }
    }
    let mut subsets: Vec<Subset> = by_ports.into_values().collect();
    let truncated = truncate(&mut subsets);
    (
        subsets.into_iter().filter_map(Subset::into_value).collect(),
        truncated,
    )
}

fn truncate(subsets: &mut [Subset]) -> bool {
    let mut room = CAPACITY;
    let mut truncated = false;
    let mut cut = |addresses: &mut Vec<Value>| {
        truncated |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
    };
    for subset in subsets.iter_mut() {
        cut(&mut subset.ready);
    }
    for subset in subsets.iter_mut() {
        cut(&mut subset.not_ready);
    }
    truncated
}

impl Subset {
    /// In the form that the server keeps: a port without a name has none.
    fn into_value(self) -> Option<Value> {
        let mut subset = Value::object();
        for (field, addresses) in [("addresses", self.ready), ("notReadyAddresses", self.not_ready)] {
            if !addresses.is_empty() {
                subset.set_at(&[field], addresses);
            }
        }
        if subset.as_object().is_none_or(cloudeck_machinery::Map::is_empty) {
            return None;
        }
        let mut ports = self.ports;
        for port in &mut ports {
            if port.str_at(&["name"]) == Some("") {
                port.remove_at(&["name"]);
            }
        }
        if !ports.is_empty() {
            subset.set_at(&["ports"], ports);
        }
        Some(subset)
    }
}

fn address_value(service: &Service, pod: &Pod, address: &str) -> Value {
    let key = &pod.object.key;
    let mut value = value!({
        "ip": (address),
        "targetRef": {
            "kind": "Pod", "namespace": (key.namespace.clone()), "name": (key.name.clone()),
            "uid": (pod.object.uid.clone())
        }
    });
    if !pod.node.is_empty() {
        value.set_at(&["nodeName"], pod.node.clone());
    }
    if service.names(pod) {
        value.set_at(&["hostname"], pod.hostname.clone());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::{object, pod};

    fn service() -> Service {
        let text = r#"{"metadata":{"labels":{"a":"b"}},"spec":{"clusterIP":"10.96.0.9","ipFamilies":["IPv4"],
            "selector":{"app":"a"},"ports":[{"port":80,"protocol":"TCP","targetPort":80}]}}"#;
        Service::read(object("web", text)).unwrap()
    }

    fn running(name: &str, address: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        let text = format!(
            r#"{{"metadata":{{"labels":{{"app":"a"}}}},"spec":{{"nodeName":"n"}},"status":{{"phase":"Running",
            "podIP":"{address}","conditions":[{{"type":"Ready","status":"{status}"}}]}}}}"#
        );
        pod(name, &text)
    }

    #[test]
    fn ready_and_unready_addresses_share_a_subset() {
        let pods = [running("a", "10.0.0.1", true), running("b", "10.0.0.2", false)];
        let wanted = decide(&service(), &pods, None).unwrap();
        let subset = &wanted.items_at(&["subsets"])[0];
        assert_eq!(
            subset.items_at(&["addresses"])[0].str_at(&["ip"]),
            Some("10.0.0.1")
        );
        assert_eq!(
            subset.items_at(&["notReadyAddresses"])[0].str_at(&["ip"]),
            Some("10.0.0.2")
        );
        assert_eq!(
            subset.items_at(&["ports"])[0].to_string(),
            r#"{"port":80,"protocol":"TCP"}"#
        );
        assert_eq!(wanted.str_at(&["metadata", "labels", MANAGED_BY]), Some(MANAGER));
        assert_eq!(decide(&service(), &pods, Some(wanted)), None);
    }

    #[test]
    fn addresses_beyond_the_capacity_are_cut_and_it_is_told() {
        let pods: Vec<_> = (0..1100)
            .map(|n| {
                running(
                    &format!("p{n}"),
                    &format!("10.0.{}.{}", n / 250, n % 250),
                    n % 2 == 0,
                )
            })
            .collect();
        let wanted = decide(&service(), &pods, None).unwrap();
        let subset = &wanted.items_at(&["subsets"])[0];
        assert_eq!(subset.items_at(&["addresses"]).len(), 550);
        assert_eq!(subset.items_at(&["notReadyAddresses"]).len(), 450);
        assert_eq!(
            wanted.str_at(&["metadata", "annotations", OVER_CAPACITY]),
            Some("truncated")
        );
    }
}
