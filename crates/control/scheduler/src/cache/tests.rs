use cloudeck_machinery::json;
use proptest::prelude::*;

use super::*;
use crate::model::tests::{object, pod};
use crate::tally::{Namespaces, PodMatcher};

const NODE: &str = r#"{"metadata":{"name":"n"},"status":{"allocatable":{"cpu":"2","pods":"9"}}}"#;

fn node(text: &str) -> Object {
    object(&json::parse(text.as_bytes()).unwrap())
}

/// A cache of nodes by name and what else their objects say. Nodes without a status have two cores, 4 GiB, ten pods.
pub(crate) fn cache_of(nodes: &[(&str, &str)]) -> Cache {
    let mut cache = Cache::default();
    for (name, text) in nodes {
        let mut tree = json::parse(text.as_bytes()).unwrap();
        tree.set_at(&["metadata", "name"], *name);
        if tree.at(&["status"]).is_none() {
            let status = json::parse(br#"{"allocatable":{"cpu":"2","memory":"4Gi","pods":"10"}}"#).unwrap();
            tree.set_at(&["status"], status);
        }
        cache.set_node(&object(&tree)).unwrap();
    }
    cache
}

fn on(uid: &str) -> PodInfo {
    let mut info = pod(
        r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}]}}"#,
    );
    info.uid = uid.into();
    info
}

fn used(cache: &Cache) -> i64 {
    cache.nodes().next().map_or(0, |n| n.requested.milli_cpu)
}

#[test]
fn an_assumed_pod_counts_once_when_its_binding_is_seen() {
    let mut cache = Cache::default();
    cache.set_node(&node(NODE)).unwrap();
    cache.assume(on("u"), "n");
    assert_eq!(used(&cache), 1000);
    assert!(cache.set_pod(on("u")).is_none());
    assert_eq!(used(&cache), 1000);
    assert!(cache.forget("u").is_none());
    assert_eq!(used(&cache), 1000);
    assert!(cache.remove_pod("u").is_some());
    assert_eq!(used(&cache), 0);
}

#[test]
fn a_failed_binding_gives_the_room_back() {
    let mut cache = Cache::default();
    cache.set_node(&node(NODE)).unwrap();
    cache.assume(on("u"), "n");
    assert!(cache.forget("u").is_some());
    assert_eq!(used(&cache), 0);
}

#[test]
fn pods_may_come_before_their_node_and_outlive_it() {
    let mut cache = Cache::default();
    cache.set_pod(on("u"));
    assert_eq!(cache.nodes().len(), 0);
    assert!(cache.set_node(&node(NODE)).unwrap().is_none());
    assert_eq!(used(&cache), 1000);
    assert!(cache.remove_node("n").is_some());
    assert_eq!(cache.nodes().len(), 0);
    assert!(cache.set_node(&node(NODE)).unwrap().is_none());
    assert_eq!(used(&cache), 1000);
    cache.remove_node("n");
    cache.remove_pod("u");
    assert!(cache.by_name.is_empty() && cache.free.len() == 1);
}

#[test]
fn zones_take_turns() {
    let zone =
        |zone: &str| format!(r#"{{"metadata":{{"labels":{{"topology.kubernetes.io/zone":"{zone}"}}}}}}"#);
    let (a, b) = (zone("a"), zone("b"));
    let cache = cache_of(&[("n3", &b), ("n1", &a), ("n2", &a), ("n4", "{}")]);
    let order: Vec<&str> = cache.nodes().map(|node| node.name.as_str()).collect();
    assert_eq!(order, ["n4", "n1", "n3", "n2"]);
}

#[test]
fn a_nomination_is_kept_once() {
    let mut cache = Cache::default();
    cache.nominate(&on("u"), "n");
    cache.nominate(&on("u"), "m");
    assert!(cache.nominated("n").is_empty());
    assert_eq!(cache.nominated("m").len(), 1);
    cache.forget_nomination("u");
    assert!(cache.nominated("m").is_empty());
}

fn labelled(uid: u8, node: u8, app: u8, deleting: bool) -> PodInfo {
    let ending = if deleting {
        r#","deletionTimestamp":"2020-01-01T00:00:00Z""#
    } else {
        ""
    };
    let mut info = pod(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"ns{}","labels":{{"app":"{app}"}}{ending}}},"spec":{{"nodeName":"n{node}","containers":[]}}}}"#,
        app % 2
    ));
    info.uid = format!("u{uid}").into();
    info
}

proptest! {
    /// However pods and nodes come, change and go, a kept count is what counting anew gives.
    #[test]
    fn counts_are_those_of_a_fresh_count(
        steps in prop::collection::vec((0_u8..6, 0_u8..3, 0_u8..3, any::<bool>(), 0_u8..4), 1..60),
    ) {
        let query = |app: &str, skips_deleting| PodQuery {
            all_of: vec![PodMatcher {
                namespaces: Namespaces::Listed(["ns0".into(), "ns1".into()].into()),
                selector: cloudeck_machinery::selector::LabelSelector::parse(app).unwrap(),
            }],
            skips_deleting,
        };
        let queries = [query("app=0", true), query("app=0", false), query("app!=1", true)];
        let mut cache = Cache::default();
        for asked in &queries {
            cache.count(asked.clone());
        }
        for (uid, at, app, deleting, kind) in steps {
            let name = format!("n{at}");
            match kind {
                0 => drop(cache.remove_pod(&format!("u{uid}"))),
                1 if deleting => drop(cache.remove_node(&name)),
                1 => {
                    let text = format!(r#"{{"metadata":{{"name":"{name}","labels":{{"host":"{name}"}}}}}}"#);
                    cache.set_node(&node(&text)).unwrap();
                }
                _ => drop(cache.set_pod(labelled(uid, at, app, deleting))),
            }
            for asked in &queries {
                let mut fresh: BTreeMap<CompactString, i64> = BTreeMap::new();
                for pod in cache.placed.values().filter(|pod| asked.matches(pod)) {
                    *fresh.entry(pod.node_name.clone()).or_insert(0) += 1;
                }
                let kept = cache.count(asked.clone());
                let kept: BTreeMap<CompactString, i64> =
                    kept.iter().map(|(id, count)| (cache.at(*id).name.clone(), *count)).collect();
                prop_assert_eq!(&kept, &fresh);
                let by = cache.count_by(asked.clone(), "host");
                let by: BTreeMap<CompactString, i64> = by.iter().map(|(host, count)| (host.clone(), *count)).collect();
                fresh.retain(|node, _| cache.node(node).is_some());
                prop_assert_eq!(by, fresh);
            }
        }
    }
}
