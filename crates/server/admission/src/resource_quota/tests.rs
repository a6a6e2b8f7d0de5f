use cloudeck_machinery::{Value, value};

use super::*;
use crate::testing::{World, create, nobody};

fn quota(spec: Value, hard: Value, used: Value) -> World {
    let tree = value!({"spec": (spec), "status": {"hard": (hard), "used": (used)}});
    World::default().with("resourcequotas", "dev", "q", tree)
}

/// The new usage of every quota, or the refusal's reason.
fn check(world: &World, resource: &str, object: Value, expected: Result<&[Value], &str>) {
    let user = nobody();
    let request = create(&user, resource, object);
    let charged = charge(&request, &world.context(), MicroTime::from_unix_micros(0));
    match (charged, expected) {
        (Ok(charges), Ok(usages)) => {
            let own: Vec<Value> = charges.into_iter().map(|charge| charge.used).collect();
            assert_eq!(own, usages);
        }
        (Err(refusal), Err(why)) => {
            assert_eq!(
                refusal.status.message,
                format!("{resource} \"x\" is forbidden: {why}")
            );
            assert_eq!(refusal.status.code, 403);
        }
        (charged, expected) => panic!("{charged:?} instead of {expected:?}"),
    }
}

fn pod(resources: Value) -> Value {
    value!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "resources": (resources)}]}})
}

#[test]
fn a_pod_is_charged_what_it_asks_for() {
    let hard = value!({"pods": "2", "requests.cpu": "1", "limits.memory": "1Gi", "count/pods": "5", "services": "1"});
    let used = value!({"pods": "1", "requests.cpu": "500m", "limits.memory": "0", "count/pods": "1", "services": "0"});
    let world = quota(value!({}), hard, used);
    let fits = pod(value!({"requests": {"cpu": "200m"}, "limits": {"memory": "100Mi"}}));
    let after = value!({"count/pods": "2", "limits.memory": "100Mi", "pods": "2", "requests.cpu": "700m", "services": "0"});
    check(&world, "pods", fits, Ok(&[after]));
    let large = pod(value!({"requests": {"cpu": "600m"}, "limits": {"memory": "2Gi"}}));
    let why = "exceeded quota: q, requested: limits.memory=2Gi,requests.cpu=600m, used: limits.memory=0,requests.cpu=500m, limited: limits.memory=1Gi,requests.cpu=1";
    check(&world, "pods", large, Err(why));
    let silent = pod(value!({}));
    let why = "failed quota: q: must specify limits.memory for: c; requests.cpu for: c";
    check(&world, "pods", silent, Err(why));
}

#[test]
fn a_quota_that_nobody_has_counted_yet_bounds_nothing_or_refuses() {
    let fresh = World::default().with(
        "resourcequotas",
        "dev",
        "q",
        value!({"spec": {"hard": {"pods": "0"}}}),
    );
    check(&fresh, "pods", pod(value!({})), Ok(&[]));
    let half = quota(value!({}), value!({"pods": "1"}), value!({}));
    check(
        &half,
        "pods",
        pod(value!({})),
        Err("status unknown for quota: q, resources: pods"),
    );
}

#[test]
fn objects_are_counted_by_name_and_by_kind() {
    let world = quota(
        value!({}),
        value!({"configmaps": "1", "count/configmaps": "9"}),
        value!({"configmaps": "1", "count/configmaps": "1"}),
    );
    let map = value!({"metadata": {"name": "x"}});
    let why = "exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1";
    check(&world, "configmaps", map.clone(), Err(why));
    check(&world, "secrets", map, Ok(&[]));
}

#[test]
fn services_and_claims_are_charged_for_what_they_hold() {
    let world = quota(
        value!({}),
        value!({"services.nodeports": "1"}),
        value!({"services.nodeports": "0"}),
    );
    let service = value!({"metadata": {"name": "x"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}});
    let why = "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1";
    check(&world, "services", service, Err(why));
    let resource = "fast.storageclass.storage.k8s.io/requests.storage";
    let amounts = |amount: &str| {
        let mut tree = Value::object();
        tree.set_at(&[resource], amount);
        tree
    };
    let world = quota(value!({}), amounts("10Gi"), amounts("4Gi"));
    let claim = |class: &str| value!({"metadata": {"name": "x"}, "spec": {"storageClassName": (class), "resources": {"requests": {"storage": "5Gi"}}}});
    check(
        &world,
        "persistentvolumeclaims",
        claim("fast"),
        Ok(&[amounts("9Gi")]),
    );
    check(&world, "persistentvolumeclaims", claim("slow"), Ok(&[]));
}

#[test]
fn an_update_pays_the_difference() {
    let world = quota(
        value!({}),
        value!({"services.nodeports": "2"}),
        value!({"services.nodeports": "1"}),
    );
    let user = nobody();
    let service =
        |kind: &str| value!({"metadata": {"name": "x"}, "spec": {"type": (kind), "ports": [{"port": 1}]}});
    let (cluster, node) = (service("ClusterIP"), service("NodePort"));
    let update = |new: &Value, old| {
        let mut request = create(&user, "services", new.clone());
        (request.operation, request.old) = (Operation::Update, Some(old));
        let charges = charge(&request, &world.context(), MicroTime::from_unix_micros(0)).unwrap();
        charges.into_iter().map(|charge| charge.used).collect::<Vec<_>>()
    };
    assert_eq!(update(&node, &cluster), [value!({"services.nodeports": "2"})]);
    assert_eq!(update(&node, &node), Vec::<Value>::new());
    assert_eq!(update(&cluster, &node), Vec::<Value>::new());
}

#[test]
fn scopes_choose_the_pods() {
    let world = |spec: Value| quota(spec, value!({"pods": "0"}), value!({"pods": "0"}));
    let ending = value!({"metadata": {"name": "x"}, "spec": {"activeDeadlineSeconds": 5, "priorityClassName": "high"}});
    let refused = "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0";
    check(
        &world(value!({"scopes": ["Terminating"]})),
        "pods",
        ending.clone(),
        Err(refused),
    );
    check(
        &world(value!({"scopes": ["NotTerminating"]})),
        "pods",
        ending.clone(),
        Ok(&[]),
    );
    let of_class = |operator: &str, class: &str| {
        world(
            value!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": (operator), "values": [(class)]}]}}),
        )
    };
    check(&of_class("In", "high"), "pods", ending.clone(), Err(refused));
    check(&of_class("NotIn", "high"), "pods", ending, Ok(&[]));
}
