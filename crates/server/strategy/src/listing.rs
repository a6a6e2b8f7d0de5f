//! Kinds of which only the table, the selectable fields and a few warnings differ; nearly all their rules come from the
//! schema.
//!
//! Source: `pkg/printers/internalversion/printers.go`.

use cloudeck_machinery::Value;
use compact_str::CompactString;

use crate::check::{At, entries};
use crate::network::ranges;
use crate::table::{self, AGE, Column, NAME, TableRow, text, typed};
use crate::{SelectableFields, Strategy, node_labels};

/// The strategy of such a kind, if it has columns of its own.
pub(crate) fn strategy(group: &str, kind: &str) -> Option<&'static Strategy> {
    Some(match (group, kind) {
        ("certificates.k8s.io", "ClusterTrustBundle") => &TRUST_BUNDLE,
        ("certificates.k8s.io", "PodCertificateRequest") => &POD_CERTIFICATE,
        ("networking.k8s.io", "IPAddress") => &ADDRESS,
        ("networking.k8s.io", "ServiceCIDR") => &SERVICE_RANGE,
        ("storage.k8s.io", "CSINode") => &CSI_NODE,
        ("storage.k8s.io", "CSIStorageCapacity") => &CAPACITY,
        ("storage.k8s.io", "VolumeAttachment") => &ATTACHMENT,
        ("storage.k8s.io", "VolumeAttributesClass") => &ATTRIBUTES_CLASS,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => &MUTATING_POLICY,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => &VALIDATING_POLICY,
        (
            "admissionregistration.k8s.io",
            "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding",
        ) => &POLICY_BINDING,
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => &WEBHOOKS,
        ("node.k8s.io", "RuntimeClass") => &RUNTIME_CLASS,
        ("resource.k8s.io", "DeviceClass" | "ResourceClaimTemplate") => &AGED,
        ("resource.k8s.io", "DeviceTaintRule") => &TAINT_RULE,
        ("resource.k8s.io", "ResourceClaim") => &CLAIM,
        ("resource.k8s.io", "ResourceSlice") => &SLICE,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => &PRIORITY_LEVEL,
        ("storagemigration.k8s.io", "StorageVersionMigration") => &MIGRATION,
        _ => return None,
    })
}

const fn shown(columns: &'static [Column], row: fn(&Value, TableRow<'_>) -> Vec<Value>) -> Strategy {
    Strategy {
        columns,
        row,
        ..Strategy::GENERIC
    }
}

fn field(object: &Value, path: &[&str]) -> CompactString {
    object.str_at(path).unwrap_or_default().into()
}

fn count(object: &Value, path: &[&str]) -> Value {
    Value::from(object.items_at(path).len() as i64)
}

pub(crate) const COMPONENT_STATUS: Strategy = shown(
    &[
        NAME,
        text("Status", "Whether it is healthy."),
        text("Message", "What it says of itself."),
        text("Error", "Why it is not healthy."),
    ],
    |status, _| {
        let mut conditions = status.items_at(&["conditions"]).iter();
        let healthy = conditions.find(|condition| condition.str_at(&["type"]) == Some("Healthy"));
        let of = |name| healthy.and_then(|it| it.str_at(&[name])).unwrap_or_default();
        let word = match (healthy, of("status")) {
            (None, _) => "Unknown",
            (_, "True") => "Healthy",
            _ => "Unhealthy",
        };
        vec![
            table::name(status),
            Value::from(word),
            Value::from(of("message")),
            Value::from(of("error")),
        ]
    },
);

const TRUST_BUNDLE: Strategy = Strategy {
    field_names: &["spec.signerName"],
    fields: |bundle| Box::new([("spec.signerName", field(bundle, &["spec", "signerName"]))]),
    ..shown(
        &[NAME, text("SignerName", "The signer whose roots these are.")],
        |bundle, _| {
            vec![
                table::name(bundle),
                table::string_or(bundle, &["spec", "signerName"], "<none>"),
            ]
        },
    )
};

const POD_CERTIFICATE: Strategy = Strategy {
    field_names: &["spec.signerName", "spec.podName", "spec.nodeName"],
    fields: pod_certificate_fields,
    ..shown(
        &[
            NAME,
            text("PodName", "The pod that is to have the certificate."),
            text("ServiceAccountName", "The account that the pod runs as."),
            text("NodeName", "The node that the pod is on."),
            text("SignerName", "Who is asked to sign."),
            text("State", "What has become of the request."),
            text("UnverifiedUserAnnotations", "What the pod's owner adds."),
        ],
        pod_certificate,
    )
};

fn pod_certificate_fields(request: &Value) -> SelectableFields {
    let of = |name| field(request, &["spec", name]);
    Box::new([
        ("spec.signerName", of("signerName")),
        ("spec.podName", of("podName")),
        ("spec.nodeName", of("nodeName")),
    ])
}

fn pod_certificate(request: &Value, _: TableRow<'_>) -> Vec<Value> {
    let conditions = request.items_at(&["status", "conditions"]).iter();
    let ended = conditions
        .filter_map(|condition| condition.str_at(&["type"]))
        .rfind(|kind| matches!(*kind, "Issued" | "Denied" | "Failed"));
    let spec = |name| table::string(request, &["spec", name]);
    vec![
        table::name(request),
        spec("podName"),
        spec("serviceAccountName"),
        spec("nodeName"),
        spec("signerName"),
        Value::from(ended.unwrap_or("Pending")),
        table::labels(request.at(&["spec", "unverifiedUserAnnotations"])),
    ]
}

const ADDRESS: Strategy = Strategy {
    validate_create: ranges::address,
    validate_update: ranges::address_update,
    ..ADDRESS_SHOWN
};

const ADDRESS_SHOWN: Strategy = shown(
    &[NAME, text("ParentRef", "What the address belongs to.")],
    |address, _| {
        let of = |name| address.str_at(&["spec", "parentRef", name]).unwrap_or_default();
        let dot = if of("group").is_empty() { "" } else { "." };
        let slash = if of("namespace").is_empty() { "" } else { "/" };
        let kind = format!("{}{dot}{}", of("resource"), of("group")).to_lowercase();
        let parent = match address.at(&["spec", "parentRef"]) {
            Some(_) => format!("{kind}{slash}{}/{}", of("namespace"), of("name")),
            None => "<none>".to_owned(),
        };
        vec![table::name(address), Value::from(parent)]
    },
);

const SERVICE_RANGE: Strategy = Strategy {
    validate_create: ranges::service_range,
    validate_update: ranges::service_range_update,
    ..SERVICE_RANGE_SHOWN
};

const SERVICE_RANGE_SHOWN: Strategy = shown(
    &[NAME, text("CIDRs", "The ranges of addresses."), AGE],
    |range, row| {
        let ranges: Vec<&str> = range
            .items_at(&["spec", "cidrs"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        vec![
            table::name(range),
            Value::from(ranges.join(",")),
            table::age(range, row),
        ]
    },
);

const CSI_NODE: Strategy = shown(
    &[
        NAME,
        typed("Drivers", "integer", "How many drivers the node has."),
        AGE,
    ],
    |node, row| {
        vec![
            table::name(node),
            count(node, &["spec", "drivers"]),
            table::age(node, row),
        ]
    },
);

const CAPACITY: Strategy = Strategy {
    warnings: |capacity, _| {
        let (at, none) = (At::root("nodeTopology"), Value::Null);
        let topology = capacity.get("nodeTopology").unwrap_or(&none);
        let mut found = Vec::new();
        node_labels::warn_of_keys(topology, &at, &mut found);
        for (key, _) in entries(topology, "matchLabels") {
            let why = node_labels::deprecated(key);
            found.extend(why.map(|why| format!("{}: {why}", at.field("matchLabels").field(key))));
        }
        found
    },
    ..CAPACITY_SHOWN
};

const CAPACITY_SHOWN: Strategy = shown(
    &[
        NAME,
        text("StorageClassName", "The class of volumes."),
        text("Capacity", "How much there is."),
    ],
    |capacity, _| {
        vec![
            table::name(capacity),
            table::string(capacity, &["storageClassName"]),
            table::string_or(capacity, &["capacity"], "<unset>"),
        ]
    },
);

const ATTACHER: Column = Column {
    format: "name",
    ..text("Attacher", "The driver that attaches.")
};

const ATTACHMENT: Strategy = shown(
    &[
        NAME,
        ATTACHER,
        text("PV", "The volume."),
        text("Node", "Where it is attached to."),
        typed("Attached", "boolean", "Whether it is."),
        AGE,
    ],
    |attachment, row| {
        vec![
            table::name(attachment),
            table::string(attachment, &["spec", "attacher"]),
            table::string(attachment, &["spec", "source", "persistentVolumeName"]),
            table::string(attachment, &["spec", "nodeName"]),
            Value::from(attachment.bool_at(&["status", "attached"]) == Some(true)),
            table::age(attachment, row),
        ]
    },
);

const ATTRIBUTES_CLASS: Strategy = shown(
    &[NAME, text("DriverName", "Who changes the volumes."), AGE],
    |class, row| {
        vec![
            table::name(class),
            table::string(class, &["driverName"]),
            table::age(class, row),
        ]
    },
);

const PARAM_KIND: Column = text("ParamKind", "The kind of the policy's parameters.");

const MUTATING_POLICY: Strategy = shown(
    &[
        NAME,
        typed("Mutations", "integer", "How many changes it makes."),
        PARAM_KIND,
        AGE,
    ],
    |own, row| policy(own, "mutations", row),
);

const VALIDATING_POLICY: Strategy = shown(
    &[
        NAME,
        typed("Validations", "integer", "How many rules it has."),
        PARAM_KIND,
        AGE,
    ],
    |own, row| policy(own, "validations", row),
);

fn policy(policy: &Value, what: &str, row: TableRow<'_>) -> Vec<Value> {
    let of = |name| policy.str_at(&["spec", "paramKind", name]).unwrap_or_default();
    let kind = match policy.at(&["spec", "paramKind"]) {
        Some(_) => format!("{}/{}", of("apiVersion"), of("kind")),
        None => "<unset>".to_owned(),
    };
    vec![
        table::name(policy),
        count(policy, &["spec", what]),
        Value::from(kind),
        table::age(policy, row),
    ]
}

const POLICY_BINDING: Strategy = shown(
    &[
        NAME,
        text("PolicyName", "The policy that is bound."),
        text("ParamRef", "Its parameters."),
        AGE,
    ],
    |binding, row| {
        let of = |name| {
            let text = binding.str_at(&["spec", "paramRef", name]);
            text.filter(|text| !text.is_empty())
        };
        let parameters = match (of("name"), binding.at(&["spec", "paramRef", "selector"])) {
            // Without a namespace the parameters may be of the cluster or of any namespace.
            (Some(name), _) => Value::from(format!("{}/{name}", of("namespace").unwrap_or("*"))),
            (None, Some(selector)) => table::selector(Some(selector)),
            (None, None) => Value::from("<unset>"),
        };
        vec![
            table::name(binding),
            table::string(binding, &["spec", "policyName"]),
            parameters,
            table::age(binding, row),
        ]
    },
);

const WEBHOOKS: Strategy = shown(
    &[NAME, typed("Webhooks", "integer", "How many there are."), AGE],
    |own, row| vec![table::name(own), count(own, &["webhooks"]), table::age(own, row)],
);

const RUNTIME_CLASS: Strategy = Strategy {
    warnings: |class, _| {
        let none = Value::Null;
        let scheduling = class.get("scheduling").unwrap_or(&none);
        let old = entries(scheduling, "nodeSelector").filter_map(|(key, _)| node_labels::deprecated(key));
        old.map(|why| format!("scheduling.nodeSelector: {why}")).collect()
    },
    ..RUNTIME_CLASS_SHOWN
};

const RUNTIME_CLASS_SHOWN: Strategy = shown(
    &[NAME, text("Handler", "The runtime's name on nodes."), AGE],
    |class, row| {
        vec![
            table::name(class),
            table::string(class, &["handler"]),
            table::age(class, row),
        ]
    },
);

const AGED: Strategy = shown(&[NAME, AGE], |own, row| {
    vec![table::name(own), table::age(own, row)]
});

const TAINT_RULE: Strategy = shown(
    &[
        NAME,
        text("Key", "The taint's key."),
        text("Value", "The taint's value."),
        text("Effect", "What the taint does."),
        text("TimeAdded", "Since when."),
        AGE,
    ],
    |rule, row| {
        let of = |name| table::string(rule, &["spec", "taint", name]);
        let added = rule.str_at(&["spec", "taint", "timeAdded"]);
        vec![
            table::name(rule),
            of("key"),
            of("value"),
            of("effect"),
            Value::from(table::since(added, row.now)),
            table::age(rule, row),
        ]
    },
);

const CLAIM: Strategy = shown(
    &[NAME, text("State", "Whether it is allocated and used."), AGE],
    |claim, row| {
        let mut states = Vec::new();
        let ends = claim.at(&["metadata", "deletionTimestamp"]).is_some();
        if ends {
            states.push("deleted");
        }
        if claim.at(&["status", "allocation"]).is_some() {
            states.push("allocated");
            if !claim.items_at(&["status", "reservedFor"]).is_empty() {
                states.push("reserved");
            }
        } else if !ends {
            states.push("pending");
        }
        vec![
            table::name(claim),
            Value::from(states.join(",")),
            table::age(claim, row),
        ]
    },
);

const SLICE: Strategy = Strategy {
    field_names: &["spec.nodeName", "spec.driver", "spec.pool.name"],
    fields: |slice| {
        Box::new([
            ("spec.nodeName", field(slice, &["spec", "nodeName"])),
            ("spec.driver", field(slice, &["spec", "driver"])),
            ("spec.pool.name", field(slice, &["spec", "pool", "name"])),
        ])
    },
    ..shown(
        &[
            NAME,
            text("Node", "The node that has the devices."),
            text("Driver", "Who offers them."),
            text("Pool", "What they belong to."),
            AGE,
        ],
        |slice, row| {
            vec![
                table::name(slice),
                table::string(slice, &["spec", "nodeName"]),
                table::string(slice, &["spec", "driver"]),
                table::string(slice, &["spec", "pool", "name"]),
                table::age(slice, row),
            ]
        },
    )
};

const FLOW_SCHEMA: Strategy = shown(
    &[
        NAME,
        text("PriorityLevel", "Where matching requests belong."),
        text("MatchingPrecedence", "Lower ones are asked first."),
        text("DistinguisherMethod", "What makes a flow of its own."),
        AGE,
        text("MissingPL", "Whether the level is missing."),
    ],
    |schema, row| {
        let conditions = schema.items_at(&["status", "conditions"]).iter();
        let dangling = conditions
            .filter(|condition| condition.str_at(&["type"]) == Some("Dangling"))
            .find_map(|condition| condition.str_at(&["status"]));
        vec![
            table::name(schema),
            table::string(schema, &["spec", "priorityLevelConfiguration", "name"]),
            table::integer(schema, &["spec", "matchingPrecedence"]),
            table::string_or(schema, &["spec", "distinguisherMethod", "type"], "<none>"),
            table::age(schema, row),
            Value::from(dangling.unwrap_or("?")),
        ]
    },
);

const PRIORITY_LEVEL: Strategy = shown(
    &[
        NAME,
        text("Type", "Whether requests are limited."),
        text("NominalConcurrencyShares", "Its share of the server."),
        text("Queues", "How many queues there are."),
        text("HandSize", "Of how many a flow uses."),
        text("QueueLengthLimit", "How long each may be."),
        AGE,
    ],
    |level, row| {
        let or_none = |path: &[&str]| level.at(path).cloned().unwrap_or_else(|| "<none>".into());
        let queuing = |name| or_none(&["spec", "limited", "limitResponse", "queuing", name]);
        vec![
            table::name(level),
            table::string(level, &["spec", "type"]),
            or_none(&["spec", "limited", "nominalConcurrencyShares"]),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            table::age(level, row),
        ]
    },
);

const MIGRATION_NAME: Column = text("Name", "The migration's name.");

const MIGRATION: Strategy = shown(
    &[
        MIGRATION_NAME,
        text("Resource", "What is migrated."),
        text("Status", "How far it is."),
    ],
    |migration, _| {
        let of = |name| migration.str_at(&["spec", "resource", name]).unwrap_or_default();
        let dot = if of("group").is_empty() { "" } else { "." };
        let state = ["Running", "Failed", "Succeeded"]
            .into_iter()
            .rfind(|state| table::has_condition(migration, state, "True"));
        vec![
            table::name(migration),
            Value::from(format!("{}{dot}{}", of("resource"), of("group"))),
            Value::from(state.unwrap_or("Unknown")),
        ]
    },
);

#[cfg(test)]
mod tests {
    use cloudeck_machinery::{Value, value};

    use crate::expect::tree;
    use crate::{TableRow, strategy};

    fn check(group: &str, kind: &str, object: &str, expected: &[Value]) {
        let row = TableRow {
            now: 0,
            namespace: "",
        };
        let cells = (strategy(group, kind).row)(&tree(object), row);
        assert_eq!(cells, expected, "{kind}");
    }

    #[test]
    fn rows_say_what_upstreams_say() {
        let age: Value = "<unknown>".into();
        check(
            "networking.k8s.io",
            "IPAddress",
            r#"{"metadata":{"name":"10.0.0.1"},"spec":{"parentRef":{"resource":"services","namespace":"n","name":"s"}}}"#,
            &["10.0.0.1".into(), "services/n/s".into()],
        );
        check(
            "storage.k8s.io",
            "VolumeAttachment",
            r#"{"metadata":{"name":"a"},"spec":{"attacher":"d","nodeName":"n","source":{"persistentVolumeName":"v"}},"status":{"attached":true}}"#,
            &[
                "a".into(),
                "d".into(),
                "v".into(),
                "n".into(),
                true.into(),
                age.clone(),
            ],
        );
        check(
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding",
            r#"{"metadata":{"name":"b"},"spec":{"policyName":"p","paramRef":{"name":"q"}}}"#,
            &["b".into(), "p".into(), "*/q".into(), age.clone()],
        );
        check(
            "flowcontrol.apiserver.k8s.io",
            "PriorityLevelConfiguration",
            r#"{"metadata":{"name":"l"},"spec":{"type":"Limited","limited":{"nominalConcurrencyShares":5,"limitResponse":{"type":"Reject"}}}}"#,
            &[
                "l".into(),
                "Limited".into(),
                value!(5),
                "<none>".into(),
                "<none>".into(),
                "<none>".into(),
                age.clone(),
            ],
        );
        check(
            "resource.k8s.io",
            "ResourceClaim",
            r#"{"metadata":{"name":"c"},"status":{"allocation":{},"reservedFor":[{}]}}"#,
            &["c".into(), "allocated,reserved".into(), age],
        );
    }
}
