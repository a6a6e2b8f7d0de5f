use cloudeck_machinery::json;
use proptest::prelude::*;

use super::*;
use crate::cache::tests::cache_of;
use crate::model::tests::{object, pod};

/// `a` and `b` are in zone 1, `x` is in zone 2, `bare` is nowhere.
fn cluster() -> Cache {
    let node = |zone: &str, host: &str| {
        format!(r#"{{"metadata":{{"labels":{{"zone":"{zone}","host":"{host}"}}}}}}"#)
    };
    let mut cache = cache_of(&[
        ("a", &node("1", "a")),
        ("b", &node("1", "b")),
        ("x", &node("2", "x")),
        ("bare", "{}"),
    ]);
    for (name, team) in [("n", "red"), ("m", "blue")] {
        let text = format!(r#"{{"metadata":{{"name":"{name}","labels":{{"team":"{team}"}}}}}}"#);
        let namespace = object(&json::parse(text.as_bytes()).unwrap());
        cache.surroundings.set_namespace(&namespace.key, Some(&namespace));
    }
    cache
}

fn plain(namespace: &str, app: &str) -> PodInfo {
    with(namespace, app, "")
}

fn with(namespace: &str, app: &str, affinity: &str) -> PodInfo {
    let mut info = pod(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"{namespace}","labels":{{"app":"{app}"}}}},"spec":{{"containers":[],"affinity":{{{affinity}}}}}}}"#
    ));
    info.uid = format!("{namespace}/{app}").into();
    info
}

fn term(key: &str, app: &str, more: &str) -> String {
    format!(r#"{{"topologyKey":"{key}","labelSelector":{{"matchLabels":{{"app":"{app}"}}}}{more}}}"#)
}

fn required(kind: &str, terms: &str) -> String {
    format!(r#""{kind}":{{"requiredDuringSchedulingIgnoredDuringExecution":[{terms}]}}"#)
}

fn preferred(kind: &str, weight: i64, term: &str) -> String {
    format!(
        r#""{kind}":{{"preferredDuringSchedulingIgnoredDuringExecution":[{{"weight":{weight},"podAffinityTerm":{term}}}]}}"#
    )
}

const NODES: [&str; 4] = ["a", "b", "x", "bare"];

#[track_caller]
fn check(cache: &Cache, waiting: &PodInfo, wanted: &str) {
    let filter = InterPodAffinity.filter(waiting, cache);
    let fits = NODES.into_iter().filter(|name| {
        let node = cache.node(name).unwrap();
        filter.as_ref().is_none_or(|filter| filter.check(node).is_ok())
    });
    assert_eq!(fits.collect::<Vec<_>>().join(" "), wanted);
}

#[track_caller]
fn reason(cache: &Cache, waiting: &PodInfo, node: &str) -> Unfit {
    let filter = InterPodAffinity.filter(waiting, cache).unwrap();
    filter.check(cache.node(node).unwrap()).unwrap_err()
}

#[test]
fn a_pod_goes_where_its_friends_are() {
    let mut cache = cluster();
    cache.assume(plain("n", "db"), "a");
    let near = |key| with("n", "web", &required("podAffinity", &term(key, "db", "")));
    check(&cache, &near("zone"), "a b");
    check(&cache, &near("host"), "a");
    assert_eq!(
        reason(&cache, &near("zone"), "x"),
        Unfit::unresolvable("node(s) didn't match pod affinity rules")
    );
}

#[test]
fn one_friend_has_to_meet_all_terms() {
    let mut cache = cluster();
    cache.assume(plain("n", "db"), "a");
    cache.assume(plain("n", "cache"), "a");
    let both = format!("{},{}", term("zone", "db", ""), term("zone", "cache", ""));
    check(&cache, &with("n", "web", &required("podAffinity", &both)), "");
}

#[test]
fn the_first_of_pods_that_want_each_other_goes_anywhere_in_a_domain() {
    let mut cache = cluster();
    let own = with("n", "web", &required("podAffinity", &term("zone", "web", "")));
    check(&cache, &own, "a b x");
    let other = with("n", "web", &required("podAffinity", &term("zone", "db", "")));
    check(&cache, &other, "");
    cache.assume(plain("n", "web"), "x");
    check(&cache, &own, "x");
}

#[test]
fn a_pod_stays_away_from_its_foes_and_they_from_it() {
    let mut cache = cluster();
    cache.assume(plain("n", "web"), "a");
    let apart = |key| with("n", "web2", &required("podAntiAffinity", &term(key, "web", "")));
    check(&cache, &apart("zone"), "x bare");
    check(&cache, &apart("host"), "b x bare");
    assert_eq!(
        reason(&cache, &apart("zone"), "b"),
        Unfit::resolvable("node(s) didn't match pod anti-affinity rules")
    );
    let mut cache = cluster();
    cache.assume(apart("zone"), "a");
    check(&cache, &plain("n", "web"), "x bare");
    check(&cache, &plain("n", "other"), "a b x bare");
    assert_eq!(
        reason(&cache, &plain("n", "web"), "a"),
        Unfit::resolvable("node(s) didn't satisfy existing pods anti-affinity rules")
    );
}

#[test]
fn terms_reach_into_the_namespaces_that_they_name_or_select() {
    let mut cache = cluster();
    cache.assume(plain("m", "web"), "a");
    let apart = |more| {
        with(
            "n",
            "web2",
            &required("podAntiAffinity", &term("zone", "web", more)),
        )
    };
    check(&cache, &apart(""), "a b x bare");
    check(&cache, &apart(r#","namespaces":["m"]"#), "x bare");
    check(&cache, &apart(r#","namespaceSelector":{}"#), "x bare");
    check(
        &cache,
        &apart(r#","namespaceSelector":{"matchLabels":{"team":"blue"}}"#),
        "x bare",
    );
    check(
        &cache,
        &apart(r#","namespaceSelector":{"matchLabels":{"team":"red"}}"#),
        "a b x bare",
    );
    // And those of pods that run likewise.
    let mut cache = cluster();
    cache.assume(
        apart(r#","namespaceSelector":{"matchLabels":{"team":"blue"}}"#),
        "a",
    );
    check(&cache, &plain("m", "web"), "x bare");
    check(&cache, &plain("n", "web"), "a b x bare");
}

#[test]
fn supposed_pods_count_until_they_are_taken_back() {
    let mut cache = cluster();
    let foe = plain("n", "web");
    cache.assume(foe.clone(), "a");
    let waiting = with(
        "n",
        "web2",
        &required("podAntiAffinity", &term("zone", "web", "")),
    );
    let mut filter = InterPodAffinity.filter(&waiting, &cache).unwrap();
    let (a, x) = (cache.node("a").unwrap(), cache.node("x").unwrap());
    filter.suppose(&foe, a, -1);
    assert!(filter.check(a).is_ok());
    let hater = with(
        "n",
        "other",
        &required("podAntiAffinity", &term("zone", "web2", "")),
    );
    filter.suppose(&hater, x, 1);
    assert!(filter.check(x).is_err());
    filter.suppose(&hater, x, -1);
    filter.suppose(&foe, a, 1);
    assert!(filter.check(a).is_err() && filter.check(x).is_ok());
}

fn scores(cache: &Cache, waiting: &PodInfo) -> Option<Vec<i64>> {
    let nodes: Vec<&NodeInfo> = NODES.iter().filter_map(|name| cache.node(name)).collect();
    let scorer = InterPodAffinity.score(waiting, cache, &nodes)?;
    let mut scores: Vec<i64> = nodes.iter().map(|node| scorer.score(node)).collect();
    scorer.normalise(&mut scores, &nodes);
    Some(scores)
}

#[test]
fn wishes_of_both_sides_make_scores() {
    let mut cache = cluster();
    cache.assume(plain("n", "db"), "a");
    let near = with("n", "web", &preferred("podAffinity", 5, &term("zone", "db", "")));
    assert_eq!(scores(&cache, &near).unwrap(), [100, 100, 0, 0]);
    let apart = with(
        "n",
        "web",
        &preferred("podAntiAffinity", 5, &term("host", "db", "")),
    );
    assert_eq!(scores(&cache, &apart).unwrap(), [0, 100, 100, 100]);
    assert_eq!(scores(&cache, &plain("n", "web")), None);
    let mut cache = cluster();
    cache.assume(near, "x");
    assert_eq!(scores(&cache, &plain("n", "db")).unwrap(), [0, 0, 100, 0]);
    // What a pod that runs demands, it also wishes.
    let demanding = with("n", "web2", &required("podAffinity", &term("host", "db", "")));
    cache.assume(demanding, "a");
    assert_eq!(scores(&cache, &plain("n", "db")).unwrap(), [20, 0, 100, 0]);
}

#[test]
fn only_friends_that_come_and_foes_that_go_turn_a_refusal() {
    let (foe, friend, other) = (plain("n", "foe"), plain("n", "friend"), plain("n", "other"));
    let both = format!(
        "{},{}",
        required("podAffinity", &term("zone", "friend", "")),
        required("podAntiAffinity", &term("zone", "foe", ""))
    );
    let waiting = with("n", "web", &both);
    let hater = with(
        "n",
        "hater",
        &required("podAntiAffinity", &term("zone", "web", "")),
    );
    let turns = |before, now| InterPodAffinity.is_turned_by(&waiting, ClusterEvent::Pod { before, now });
    assert!(turns(None, Some(&friend)) && turns(Some(&foe), None) && turns(Some(&hater), None));
    assert!(turns(Some(&other), Some(&friend)) && turns(Some(&foe), Some(&other)));
    for stranger in [&foe, &other] {
        assert!(!turns(None, Some(stranger)));
    }
    assert!(!turns(Some(&friend), None) && !turns(Some(&other), None));
    let cache = cluster();
    let node = |before, now| ClusterEvent::Node { before, now };
    let turns = |event| InterPodAffinity.is_turned_by(&waiting, event);
    assert!(turns(node(None, cache.node("a"))) && turns(node(cache.node("a"), cache.node("x"))));
    assert!(!turns(node(cache.node("a"), cache.node("b"))));
}

/// The rules again, read off the pods one by one.
fn naive(cache: &Cache, running: &[(PodInfo, &str)], waiting: &PodInfo, name: &str) -> bool {
    let node = cache.node(name).unwrap();
    let label = |node: &str, key: &str| cache.node(node).unwrap().label(key).map(str::to_owned);
    let means = |term: &Term, holder: &PodInfo, other: &PodInfo| {
        let _ = holder;
        term.is_about(other, &cache.surroundings.namespace_labels(&other.key.namespace))
    };
    let together = |other: &str, term: &Term| {
        let here = node.label(&term.topology_key).map(str::to_owned);
        here.is_some() && here == label(other, &term.topology_key)
    };
    let none = PodTerms::default();
    let own = waiting.terms.as_deref().unwrap_or(&none);
    for (other, place) in running {
        let theirs = other.terms.as_deref().unwrap_or(&none);
        let foe = own
            .apart
            .iter()
            .any(|t| means(t, waiting, other) && together(place, t));
        let hater = theirs
            .apart
            .iter()
            .any(|t| means(t, other, waiting) && together(place, t));
        if foe || hater {
            return false;
        }
    }
    if own.near.is_empty() {
        return true;
    }
    if own.near.iter().any(|t| node.label(&t.topology_key).is_none()) {
        return false;
    }
    let friends: Vec<_> = running
        .iter()
        .filter(|(other, _)| own.near.iter().all(|t| means(t, waiting, other)))
        .collect();
    let met = |t: &Arc<Term>| friends.iter().any(|(_, place)| together(place, t));
    let placed = |place: &str| own.near.iter().any(|t| label(place, &t.topology_key).is_some());
    let alone = !friends.iter().any(|(_, place)| placed(place));
    own.near.iter().all(met) || (alone && own.near.iter().all(|t| means(t, waiting, waiting)))
}

use crate::model::PodTerms;

fn any_pod() -> impl Strategy<Value = PodInfo> {
    let keys = prop::sample::select(vec!["zone", "host"]);
    let apps = prop::sample::select(vec!["p", "q"]);
    let namespaces = prop::sample::select(vec!["", r#","namespaces":["m"]"#, r#","namespaceSelector":{}"#]);
    let some_term = (keys, apps.clone(), namespaces).prop_map(|(key, app, more)| term(key, app, more));
    let terms = prop::collection::vec(some_term, 0..2);
    let place = (prop::sample::select(vec!["n", "m"]), apps);
    (place, terms.clone(), terms).prop_map(|((namespace, app), near, apart)| {
        let both = [
            required("podAffinity", &near.join(",")),
            required("podAntiAffinity", &apart.join(",")),
        ];
        with(namespace, app, &both.join(","))
    })
}

proptest! {
    /// The kept counts and terms give what looking at every pod gives.
    #[test]
    fn the_filter_agrees_with_a_look_at_every_pod(
        running in prop::collection::vec((any_pod(), prop::sample::select(NODES.to_vec())), 0..6),
        waiting in any_pod(),
    ) {
        let mut cache = cluster();
        let mut all = Vec::new();
        for (at, (mut other, node)) in running.into_iter().enumerate() {
            other.uid = at.to_string().into();
            cache.assume(other.clone(), node);
            all.push((other, node));
        }
        let filter = InterPodAffinity.filter(&waiting, &cache);
        for name in NODES {
            let node = cache.node(name).unwrap();
            let fits = filter.as_ref().is_none_or(|filter| filter.check(node).is_ok());
            prop_assert_eq!(fits, naive(&cache, &all, &waiting, name), "on {}", name);
        }
    }
}
