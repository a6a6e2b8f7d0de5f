//! Keeps the EndpointSlices of Services that select pods.
//!
//! State: such Services, the pods they select, the nodes of those, and the slices it manages. It writes no slice of
//! another manager. Which endpoints there are is decided in [`groups`], how they lie in slices in [`super::packing`].
//!
//! Source: `pkg/controller/endpointslice`, `k8s.io/endpointslice`.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Status, Value, value};
use cloudeck_task::Scope;

use super::packing::{self, Dress, Group, Writes};
use super::service::Service;
use super::slice::{MANAGED_BY, SERVICE_NAME, Slice};
use super::{TRIGGER_TIME, address_of, addressed, labels_of, trigger_time, wake};
use crate::kinds;
use crate::node::facts::Node;
use crate::pending::{self, Pending};
use crate::pod::Pod;
use crate::view::{Facts, View};
use crate::write;

const MANAGER: &str = "endpointslice-controller.k8s.io";
const CAPACITY: usize = 100;
const ZONE: &str = "topology.kubernetes.io/zone";
const WORKERS: usize = 4;

#[derive(Clone)]
pub(crate) struct EndpointSlices {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    services: View<Service>,
    pods: View<Pod>,
    nodes: View<Node>,
    slices: View<Slice>,
    queue: WorkQueue<ObjectKey>,
    pending: Pending,
}

impl EndpointSlices {
    /// Registers with the views; [`EndpointSlices::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        services: &View<Service>,
        pods: &View<Pod>,
        nodes: &View<Node>,
        slices: &View<Slice>,
    ) -> Self {
        let inner = Arc::new(Inner {
            client,
            services: services.clone(),
            pods: pods.clone(),
            nodes: nodes.clone(),
            slices: slices.clone(),
            queue: WorkQueue::new(),
            pending: Pending::default(),
        });
        let queue = inner.queue.clone();
        services.on_change(move |update| queue.add(update.key.clone()));
        let (queue, known) = (inner.queue.clone(), services.clone());
        pods.on_change(move |update| wake(&queue, &known, update));
        let queue = inner.queue.clone();
        slices.on_change(move |update| {
            for slice in update.sides().filter(|slice| slice.is_managed_by(MANAGER)) {
                let service = slice.object.label(SERVICE_NAME).unwrap_or_default();
                queue.add(ObjectKey::new(&update.key.namespace, service));
            }
        });
        let (queue, known) = (inner.queue.clone(), services.clone());
        nodes.on_change(move |update| {
            let zone =
                |node: Option<&Arc<Node>>| node.map(|node| node.object().label(ZONE).map(str::to_owned));
            if zone(update.old) != zone(update.new) {
                known
                    .list()
                    .iter()
                    .for_each(|service| queue.add(service.object.key.clone()));
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "endpointslice-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(service) = self.services.get(key) else {
            return Ok(Requeue::OnChange);
        };
        if service.selector.is_none() || service.deleting {
            return Ok(Requeue::OnChange);
        }
        let uid = &service.object.uid;
        if !self.pending.is_settled(uid, &self.slices) {
            return Ok(Requeue::After(pending::PATIENCE));
        }
        let pods = addressed(&self.pods, &service, true);
        let node = |name: &str| self.nodes.get(&ObjectKey::new("", name));
        let groups = groups(&service, &pods, &|name| {
            node(name).map(|node| node.object().label(ZONE).map(str::to_owned))
        });
        let present = self.slices.owned_by(uid).into_iter();
        let present = present.filter(|slice| slice.is_managed_by(MANAGER) && !slice.is_deleting());
        let present = present.map(|slice| slice.object.tree()).collect();
        let writes = packing::pack(groups, present, &dress(&service, &pods));
        write_slices(&self.client, key, uid, writes, &self.pending).await?;
        Ok(Requeue::OnChange)
    }
}

/// Carries out writes of slices for an owner.
pub(super) async fn write_slices(
    client: &Client,
    key: &ObjectKey,
    owner_uid: &str,
    writes: Writes,
    pending: &Pending,
) -> Result<(), Status> {
    let resource = kinds::endpoint_slices();
    for slice in &writes.create {
        match client.create(&resource, &key.namespace, slice).await {
            Ok(created) => pending.created(owner_uid, &created),
            Err(status) if write::is_namespace_terminating(&status) => return Ok(()),
            Err(status) => return Err(status),
        }
    }
    for slice in &writes.update {
        write::update(client, &resource, "", slice).await?;
    }
    for slice in &writes.delete {
        let meta = |field| slice.str_at(&["metadata", field]).unwrap_or_default();
        let key = ObjectKey::new(&key.namespace, meta("name"));
        write::delete(client, &resource, &key, meta("uid")).await?;
    }
    Ok(())
}

/// The Service's endpoints by family and ports. `zone_of` tells a node's zone, and `None` when there is no such node: a
/// pod on such a node is left out, unless the Service publishes whatever it has.
fn groups(
    service: &Service,
    pods: &[Arc<Pod>],
    zone_of: &dyn Fn(&str) -> Option<Option<String>>,
) -> Vec<Group> {
    let mut groups = Vec::new();
    for family in service.families() {
        let mut of_family: BTreeMap<String, Group> = BTreeMap::new();
        for pod in pods {
            let Some(address) = address_of(pod, family) else {
                continue;
            };
            let zone = zone_of(&pod.node);
            if zone.is_none() && !service.publishes_not_ready {
                continue;
            }
            let ports = service.ports_on(pod);
            if ports.is_empty() && !service.is_headless() {
                continue;
            }
            let kind = ports.iter().map(Value::to_string).collect();
            let group = of_family.entry(kind).or_insert_with(|| Group {
                address_type: family.as_str(),
                ports,
                endpoints: Vec::new(),
            });
            group
                .endpoints
                .push(endpoint(service, pod, address, zone.flatten()));
        }
        if of_family.is_empty() {
            groups.push(Group {
                address_type: family.as_str(),
                ports: Vec::new(),
                endpoints: Vec::new(),
            });
        }
        groups.extend(of_family.into_values());
    }
    groups
}

fn endpoint(service: &Service, pod: &Pod, address: &str, zone: Option<String>) -> Value {
    let key = &pod.object.key;
    let ready = service.publishes_not_ready || (pod.ready && !pod.deleting);
    let mut endpoint = value!({
        "addresses": [(address)],
        "conditions": {"ready": (ready), "serving": (pod.ready), "terminating": (pod.deleting)},
        "targetRef": {
            "kind": "Pod", "namespace": (key.namespace.clone()), "name": (key.name.clone()),
            "uid": (pod.object.uid.clone())
        }
    });
    if !pod.node.is_empty() {
        endpoint.set_at(&["nodeName"], pod.node.clone());
    }
    if let Some(zone) = zone {
        endpoint.set_at(&["zone"], zone);
    }
    if service.names(pod) {
        endpoint.set_at(&["hostname"], pod.hostname.clone());
    }
    endpoint
}

fn dress(service: &Service, pods: &[Arc<Pod>]) -> Dress {
    let mut labels = labels_of(service, &[SERVICE_NAME, MANAGED_BY]);
    labels.set_at(&[SERVICE_NAME], service.name());
    labels.set_at(&[MANAGED_BY], MANAGER);
    Dress {
        labels,
        annotations: Value::object(),
        stamp: trigger_time(service, pods).map(|time| (TRIGGER_TIME, time)),
        skeleton: skeleton(
            write::controller_reference("v1", "Service", &service.object),
            &service.object.key,
        ),
        capacity: CAPACITY,
    }
}

/// A slice without endpoints.
pub(super) fn skeleton(owner: Value, key: &ObjectKey) -> Value {
    value!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "generateName": (format!("{}-", key.name)), "namespace": (key.namespace.clone()),
            "ownerReferences": [(owner)]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::{object, pod};

    fn service(spec: &str) -> Service {
        Service::read(object(
            "web",
            &format!(r#"{{"spec":{{"selector":{{"app":"a"}},{spec}}}}}"#),
        ))
        .unwrap()
    }

    fn running(name: &str, more: &str) -> Arc<Pod> {
        pod(
            name,
            &format!(
                r#"{{"metadata":{{"labels":{{"app":"a"}}}},"spec":{{"nodeName":"n","hostname":"h","subdomain":"web",
                "containers":[{{"name":"c","ports":[{{"name":"http","containerPort":8080,"protocol":"TCP"}}]}}]}},
                "status":{{"phase":"Running","podIPs":[{{"ip":"10.0.0.1"}},{{"ip":"fd00::1"}}]{more}}}}}"#
            ),
        )
    }

    const READY: &str = r#","conditions":[{"type":"Ready","status":"True"}]"#;

    fn look(service: &Service, pods: &[Arc<Pod>]) -> Vec<Group> {
        groups(service, pods, &|node| (node == "n").then(|| Some("z".to_owned())))
    }

    #[test]
    fn an_endpoint_tells_all_about_its_pod() {
        let service = service(
            r#""clusterIP":"10.96.0.9","ipFamilies":["IPv4"],"ports":[{"name":"w","port":80,"protocol":"TCP","targetPort":"http"}]"#,
        );
        let groups = look(&service, &[running("a", READY)]);
        assert_eq!(
            groups[0].ports[0].to_string(),
            r#"{"name":"w","port":8080,"protocol":"TCP"}"#
        );
        assert_eq!(
            groups[0].endpoints[0].to_string(),
            r#"{"addresses":["10.0.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"hostname":"h","nodeName":"n","targetRef":{"kind":"Pod","name":"a","namespace":"ns","uid":"a"},"zone":"z"}"#
        );
    }

    #[test]
    fn both_families_get_slices_of_their_own() {
        let service = service(
            r#""clusterIP":"10.96.0.9","ipFamilies":["IPv4","IPv6"],"ports":[{"port":80,"targetPort":80}]"#,
        );
        let groups = look(&service, &[running("a", READY)]);
        let types: Vec<_> = groups.iter().map(|group| group.address_type).collect();
        assert_eq!(types, ["IPv4", "IPv6"]);
        assert_eq!(
            groups[1].endpoints[0].items_at(&["addresses"])[0].as_str(),
            Some("fd00::1")
        );
    }

    #[test]
    fn unready_pods_are_published_as_ready_where_asked() {
        let spec = r#""clusterIP":"None","ipFamilies":["IPv4"],"publishNotReadyAddresses":"#;
        for (flag, ready) in [("true", true), ("false", false)] {
            let groups = look(&service(&format!("{spec}{flag}")), &[running("a", "")]);
            let endpoint = &groups[0].endpoints[0];
            assert_eq!(endpoint.bool_at(&["conditions", "ready"]), Some(ready));
            assert_eq!(endpoint.bool_at(&["conditions", "serving"]), Some(false));
        }
    }

    #[test]
    fn a_pod_without_the_named_port_or_the_node_is_left_out() {
        let missing = r#""clusterIP":"10.96.0.9","ipFamilies":["IPv4"],"ports":[{"port":80,"protocol":"TCP","targetPort":"x"}]"#;
        let groups = look(&service(missing), &[running("a", READY)]);
        assert_eq!((groups.len(), groups[0].endpoints.len()), (1, 0));
        let present = missing.replace(r#""x""#, "80");
        let groups = super::groups(&service(&present), &[running("a", READY)], &|_| None);
        assert_eq!((groups.len(), groups[0].endpoints.len()), (1, 0));
    }
}
