//! What must hold once nothing fails any more and the cluster has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use cloudeck_machinery::{LabelSelector, Value, json};

use crate::book::Book;
use crate::laws::{controller_uid, is_over};
use crate::node::condition;
use crate::trace::Trace;

/// Everything there is, by the datastore's key.
struct World {
    objects: BTreeMap<String, Value>,
    trace: Trace,
}

/// Looks at the whole cluster.
pub(crate) fn check(book: &Book, trace: &Trace) {
    let parse = |(key, _, bytes): (std::sync::Arc<str>, u64, bytes::Bytes)| {
        Some((key.to_string(), json::parse(&bytes).ok()?))
    };
    let world = World {
        objects: book.present("").into_iter().filter_map(parse).collect(),
        trace: trace.clone(),
    };
    world.nothing_is_ending();
    world.owners_exist();
    world.namespaces_are_furnished();
    world.pods_run();
    world.replica_sets_are_complete();
    world.deployments_are_complete();
    world.slices_show_ready_pods();
    world.nodes_are_ready();
    world.allocations_have_owners(book);
}

impl World {
    fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let range = self.objects.range(kind.to_owned()..);
        range
            .take_while(move |(key, _)| key.starts_with(kind))
            .map(|(key, tree)| (key.as_str(), tree))
    }

    fn wrong(&self, key: &str, what: &str) {
        self.trace.violation(format!("at rest {key} {what}"));
    }

    fn nothing_is_ending(&self) {
        for (key, tree) in &self.objects {
            if tree.at(&["metadata", "deletionTimestamp"]).is_some() {
                let finalizers = tree.at(&["metadata", "finalizers"]).map(Value::to_string);
                self.wrong(key, &format!("is still being deleted, finalizers {finalizers:?}"));
            }
        }
    }

    fn owners_exist(&self) {
        let uids: BTreeSet<&str> = self.objects.values().filter_map(uid).collect();
        for (key, tree) in &self.objects {
            for owner in tree.items_at(&["metadata", "ownerReferences"]) {
                let owner_uid = owner.str_at(&["uid"]).unwrap_or_default();
                if !uids.contains(owner_uid) {
                    self.wrong(key, &format!("is owned by {owner}, which is gone"));
                }
            }
        }
    }

    fn namespaces_are_furnished(&self) {
        let names: BTreeSet<&str> = self
            .of("core/namespaces/")
            .filter_map(|(_, it)| name(it))
            .collect();
        for (key, tree) in &self.objects {
            if let Some(namespace) = namespace(tree)
                && !names.contains(namespace)
            {
                self.wrong(key, "lies in a namespace that is gone");
            }
        }
        for namespace in names {
            for must in [
                "core/serviceaccounts/NS/default",
                "core/configmaps/NS/kube-root-ca.crt",
            ] {
                let must = must.replace("NS", namespace);
                if !self.objects.contains_key(&must) {
                    self.wrong(&must, "is missing");
                }
            }
        }
    }

    fn pods_run(&self) {
        for (key, pod) in self.of("core/pods/") {
            let node = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
            if !self.objects.contains_key(&format!("core/nodes/{node}")) {
                self.wrong(key, &format!("has the node {node:?}"));
            }
            if !is_over(pod) && !is_ready(pod) {
                let status = pod.at(&["status"]).map(Value::to_string);
                self.wrong(key, &format!("does not run: {status:?}"));
            }
        }
    }

    fn owned_by<'a>(&'a self, kind: &'a str, owner: &'a Value) -> Vec<&'a Value> {
        let all = self.of(kind).map(|(_, it)| it);
        all.filter(|it| controller_uid(it) == uid(owner)).collect()
    }

    fn replica_sets_are_complete(&self) {
        for (key, set) in self.of("apps/replicasets/") {
            let pods = self.owned_by("core/pods/", set);
            let active = pods.iter().filter(|pod| !is_over(pod)).count() as i64;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count() as i64;
            let wanted = number(set, &["spec", "replicas"]);
            let status = |field: &str| number(set, &["status", field]);
            let told = [
                status("replicas"),
                status("readyReplicas"),
                status("availableReplicas"),
            ];
            if active != wanted || told != [active, ready, ready] {
                self.wrong(
                    key,
                    &format!("wants {wanted}, has {active}, {ready} ready, and says {told:?}"),
                );
            }
            self.is_observed(key, set);
        }
    }

    fn deployments_are_complete(&self) {
        for (key, deployment) in self.of("apps/deployments/") {
            if self.is_stuck_as_upstream(deployment) {
                self.trace.line(format!("{key} is stuck, as upstream's would be"));
                continue;
            }
            let wanted = number(deployment, &["spec", "replicas"]);
            let status = |field: &str| number(deployment, &["status", field]);
            let fields = [
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
            ];
            let told = fields.map(status);
            if told != [wanted; 4] {
                self.wrong(key, &format!("wants {wanted} and says {told:?}"));
            }
            let sets = self.owned_by("apps/replicasets/", deployment);
            let sizes: Vec<i64> = sets
                .iter()
                .map(|set| number(set, &["spec", "replicas"]))
                .collect();
            let used = sizes.iter().filter(|size| **size > 0).count();
            if sizes.iter().sum::<i64>() != wanted || used > 1 {
                self.wrong(key, &format!("wants {wanted} and has sets of {sizes:?}"));
            }
            let kept = number(deployment, &["spec", "revisionHistoryLimit"]);
            if sets.len() as i64 > kept + 1 {
                self.wrong(
                    key,
                    &format!("keeps {} sets where {kept} old ones are allowed", sets.len()),
                );
            }
            let says = |kind| condition(deployment, kind).and_then(|it| it.str_at(&["status"]));
            if says("Available") != Some("True") || says("Progressing") != Some("True") {
                self.wrong(
                    key,
                    &format!(
                        "has the conditions {:?}",
                        deployment.at(&["status", "conditions"])
                    ),
                );
            }
            self.is_observed(key, deployment);
        }
    }

    /// A Recreate that was made over the sets of a rolling update, or became one in the middle of it, and was scaled
    /// meanwhile: upstream's controller takes that for a change of scale alone (`isScalingEvent`), and a Recreate
    /// scales no two sets at once. Nothing ever happens to it again until it has one set or its old size.
    fn is_stuck_as_upstream(&self, deployment: &Value) -> bool {
        let wanted = number(deployment, &["spec", "replicas"]).to_string();
        let sets = self.owned_by("apps/replicasets/", deployment);
        let active = sets.iter().filter(|set| number(set, &["spec", "replicas"]) > 0);
        let desired = [
            "metadata",
            "annotations",
            "deployment.kubernetes.io/desired-replicas",
        ];
        let told: Vec<_> = active.map(|set| set.str_at(&desired)).collect();
        let differs = told.iter().any(|told| told.is_some_and(|told| told != wanted));
        deployment.str_at(&["spec", "strategy", "type"]) == Some("Recreate") && told.len() > 1 && differs
    }

    fn is_observed(&self, key: &str, tree: &Value) {
        let generation = number(tree, &["metadata", "generation"]);
        let observed = number(tree, &["status", "observedGeneration"]);
        if generation != observed {
            self.wrong(
                key,
                &format!("is of generation {generation}, its status of {observed}"),
            );
        }
    }

    fn slices_show_ready_pods(&self) {
        for (key, service) in self.of("core/services/") {
            let Some(selector) = service.at(&["spec", "selector"]) else {
                continue;
            };
            let selector = LabelSelector::from_map(selector.as_object());
            let pods = self.of("core/pods/").map(|(_, pod)| pod);
            let selected =
                pods.filter(|pod| namespace(pod) == namespace(service) && selector.matches_tree(pod));
            let expected: BTreeSet<&str> = selected
                .filter(|pod| is_ready(pod))
                .filter_map(|pod| pod.str_at(&["status", "podIP"]))
                .collect();
            let told = self.addresses_of(service);
            if expected != told {
                self.wrong(
                    key,
                    &format!("has the ready pods {expected:?}, its slices {told:?}"),
                );
            }
            let legacy = self.legacy_addresses_of(service);
            if expected != legacy {
                self.wrong(
                    key,
                    &format!("has the ready pods {expected:?}, its endpoints {legacy:?}"),
                );
            }
        }
    }

    fn addresses_of<'a>(&'a self, service: &'a Value) -> BTreeSet<&'a str> {
        let slices = self.owned_by("discovery.k8s.io/endpointslices/", service);
        let endpoints = slices
            .into_iter()
            .flat_map(|slice| slice.items_at(&["endpoints"]));
        endpoints
            .filter(|it| it.bool_at(&["conditions", "ready"]) == Some(true))
            .flat_map(|it| it.items_at(&["addresses"]))
            .filter_map(Value::as_str)
            .collect()
    }

    fn legacy_addresses_of<'a>(&'a self, service: &'a Value) -> BTreeSet<&'a str> {
        let (namespace, name) = (
            namespace(service).unwrap_or_default(),
            name(service).unwrap_or_default(),
        );
        let endpoints = self.objects.get(&format!("core/endpoints/{namespace}/{name}"));
        let subsets = endpoints.map_or(&[][..], |it| it.items_at(&["subsets"]));
        subsets
            .iter()
            .flat_map(|subset| subset.items_at(&["addresses"]))
            .filter_map(|address| address.str_at(&["ip"]))
            .collect()
    }

    /// Addresses, ports and ranges are held by exactly those who use them.
    fn allocations_have_owners(&self, book: &Book) {
        let held = |prefix: &str| -> BTreeSet<String> {
            let keys = book.present(prefix).into_iter();
            keys.filter_map(|(key, ..)| key.strip_prefix(prefix).map(str::to_owned))
                .collect()
        };
        let services: Vec<&Value> = self.of("core/services/").map(|(_, it)| it).collect();
        let addresses = services.iter().filter_map(|it| it.str_at(&["spec", "clusterIP"]));
        let addresses = addresses.filter(|address| *address != "None").map(str::to_owned);
        let ports = services.iter().flat_map(|it| it.items_at(&["spec", "ports"]));
        let ports = ports
            .filter_map(|port| port.int_at(&["nodePort"]))
            .map(|port| port.to_string());
        let nodes = self.of("core/nodes/").map(|(_, it)| it);
        let ranges = nodes
            .filter_map(|it| it.str_at(&["spec", "podCIDR"]))
            .map(|it| it.replace('/', "-"));
        for (what, prefix, used) in [
            (
                "addresses",
                "networking.k8s.io/ipaddresses/",
                addresses.collect::<BTreeSet<_>>(),
            ),
            ("ports", "ranges/nodeports/", ports.collect()),
            ("ranges", "ranges/podcidrs/", ranges.collect()),
        ] {
            let held = held(prefix);
            if held != used {
                self.wrong(
                    prefix,
                    &format!("the {what} {held:?} are held, {used:?} are used"),
                );
            }
        }
    }

    fn nodes_are_ready(&self) {
        for (key, node) in self.of("core/nodes/") {
            let taints = node.items_at(&["spec", "taints"]);
            if !is_ready(node) || !taints.is_empty() {
                self.wrong(key, &format!("is not ready or has taints: {taints:?}"));
            }
        }
    }
}

fn is_ready(tree: &Value) -> bool {
    condition(tree, "Ready").and_then(|it| it.str_at(&["status"])) == Some("True")
}

fn uid(tree: &Value) -> Option<&str> {
    tree.str_at(&["metadata", "uid"])
}

fn name(tree: &Value) -> Option<&str> {
    tree.str_at(&["metadata", "name"])
}

fn namespace(tree: &Value) -> Option<&str> {
    tree.str_at(&["metadata", "namespace"])
}

fn number(tree: &Value, path: &[&str]) -> i64 {
    tree.int_at(path).unwrap_or(0)
}
