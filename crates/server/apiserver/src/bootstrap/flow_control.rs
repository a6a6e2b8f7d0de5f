//! The mandatory and suggested flow schemas and priority levels, as objects. This server does not queue by them.

use cloudeck_machinery::{GroupVersionResource, Value, value};

const API: &str = "flowcontrol.apiserver.k8s.io/v1";

pub(super) fn objects() -> Vec<(GroupVersionResource, Value)> {
    let resource = |plural| GroupVersionResource::new("flowcontrol.apiserver.k8s.io", "v1", plural);
    let levels = LEVELS
        .iter()
        .map(level)
        .map(|tree| (resource("prioritylevelconfigurations"), tree));
    let schemas = SCHEMAS
        .iter()
        .map(schema)
        .map(|tree| (resource("flowschemas"), tree));
    levels.chain(schemas).collect()
}

/// Name, shares, queues (queues, hand size, length) or none for reject, lendable percent.
struct Level {
    name: &'static str,
    shares: i64,
    queues: Option<(i64, i64, i64)>,
    lendable: i64,
    exempt: bool,
}

const fn limited(name: &'static str, shares: i64, queues: Option<(i64, i64, i64)>, lendable: i64) -> Level {
    Level {
        name,
        shares,
        queues,
        lendable,
        exempt: false,
    }
}

const LEVELS: [Level; 8] = [
    Level {
        name: "exempt",
        shares: 0,
        queues: None,
        lendable: 50,
        exempt: true,
    },
    limited("catch-all", 5, None, 0),
    limited("system", 30, Some((64, 6, 50)), 33),
    limited("node-high", 40, Some((64, 6, 50)), 25),
    limited("leader-election", 10, Some((16, 4, 50)), 0),
    limited("workload-high", 40, Some((128, 6, 50)), 50),
    limited("workload-low", 100, Some((128, 6, 50)), 90),
    limited("global-default", 20, Some((128, 6, 50)), 50),
];

fn level(level: &Level) -> Value {
    let spec = if level.exempt {
        value!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": (level.lendable)}})
    } else {
        let response = match level.queues {
            None => value!({"type": "Reject"}),
            Some((queues, hand, length)) => value!({
                "type": "Queue", "queuing": {"queues": (queues), "handSize": (hand), "queueLengthLimit": (length)}
            }),
        };
        value!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": (level.shares), "lendablePercent": (level.lendable), "limitResponse": (response)
        }})
    };
    value!({
        "apiVersion": (API), "kind": "PriorityLevelConfiguration",
        "metadata": {"name": (level.name), "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}, "spec": (spec)
    })
}

/// Who a schema is about.
enum About {
    Group(&'static str),
    User(&'static str),
    ServiceAccounts(&'static str),
}

/// Name, level, precedence, distinguisher, subjects.
struct Schema(&'static str, &'static str, i64, &'static str, &'static [About]);

const SCHEMAS: [Schema; 8] = [
    Schema("exempt", "exempt", 1, "", &[About::Group("system:masters")]),
    Schema(
        "system-nodes",
        "system",
        500,
        "ByUser",
        &[About::Group("system:nodes")],
    ),
    Schema(
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        &[About::Group("system:nodes")],
    ),
    Schema(
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        &[About::User("system:kube-controller-manager")],
    ),
    Schema(
        "kube-scheduler",
        "workload-high",
        800,
        "ByNamespace",
        &[About::User("system:kube-scheduler")],
    ),
    Schema(
        "kube-system-service-accounts",
        "workload-high",
        900,
        "ByNamespace",
        &[About::ServiceAccounts("kube-system")],
    ),
    Schema(
        "global-default",
        "global-default",
        9900,
        "ByUser",
        &[
            About::Group("system:unauthenticated"),
            About::Group("system:authenticated"),
        ],
    ),
    Schema(
        "catch-all",
        "catch-all",
        10000,
        "ByUser",
        &[
            About::Group("system:unauthenticated"),
            About::Group("system:authenticated"),
        ],
    ),
];

fn schema(Schema(name, level, precedence, by, about): &Schema) -> Value {
    let subjects: Vec<Value> = about.iter().map(subject).collect();
    let mut spec = value!({
        "priorityLevelConfiguration": {"name": (*level)}, "matchingPrecedence": (*precedence),
        "rules": [{
            "subjects": (subjects),
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        }]
    });
    if !by.is_empty() {
        spec.set_at(&["distinguisherMethod", "type"], *by);
    }
    value!({
        "apiVersion": (API), "kind": "FlowSchema",
        "metadata": {"name": (*name), "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}, "spec": (spec)
    })
}

fn subject(about: &About) -> Value {
    match about {
        About::Group(name) => value!({"kind": "Group", "group": {"name": (*name)}}),
        About::User(name) => value!({"kind": "User", "user": {"name": (*name)}}),
        About::ServiceAccounts(namespace) => value!({
            "kind": "ServiceAccount", "serviceAccount": {"namespace": (*namespace), "name": "*"}
        }),
    }
}
