//! Rows of volumes, claims and their classes.

use cloudeck_machinery::Value;

use crate::table::{self, AGE, Column, NAME, TableRow, text, typed, wide};

pub(super) const VOLUME: &[Column] = &[
    NAME,
    text("Capacity", "The size of the volume."),
    text("Access Modes", "How the volume can be mounted."),
    text("Reclaim Policy", "What happens to the volume after its claim."),
    text("Status", "Whether the volume is bound."),
    text("Claim", "The claim that the volume is bound to."),
    text("StorageClass", "StorageClass of the pv"),
    text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
    text("Reason", "Why the volume is in its state."),
    AGE,
    wide("VolumeMode", "A file system or a raw device."),
];

pub(super) const CLAIM: &[Column] = &[
    NAME,
    text("Status", "Whether the claim is bound."),
    text("Volume", "The volume that the claim is bound to."),
    text("Capacity", "The size of the volume."),
    text("Access Modes", "How the volume can be mounted."),
    text("StorageClass", "StorageClass of the pvc"),
    text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
    AGE,
    wide("VolumeMode", "A file system or a raw device."),
];

pub(super) const CLASS: &[Column] = &[
    NAME,
    text("Provisioner", "Who makes the volumes."),
    text("ReclaimPolicy", "What happens to volumes after their claims."),
    text("VolumeBindingMode", "When claims are bound."),
    text("AllowVolumeExpansion", "Whether claims may grow."),
    AGE,
];

pub(super) const DRIVER: &[Column] = &[
    NAME,
    typed(
        "AttachRequired",
        "boolean",
        "Whether volumes are attached to nodes.",
    ),
    typed(
        "PodInfoOnMount",
        "boolean",
        "Whether the driver is told of the pod.",
    ),
    typed(
        "StorageCapacity",
        "boolean",
        "Whether scheduling looks at free capacity.",
    ),
    text("TokenRequests", "Audiences of tokens that the driver gets."),
    typed(
        "RequiresRepublish",
        "boolean",
        "Whether the driver is called again and again.",
    ),
    text("Modes", "Kinds of volumes that the driver serves."),
    AGE,
];

fn access_modes(modes: &[Value]) -> Value {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |name: &str| modes.iter().any(|mode| mode.as_str() == Some(name));
    let short: Vec<&str> = SHORT
        .iter()
        .filter(|(name, _)| has(name))
        .map(|(_, short)| *short)
        .collect();
    Value::from(short.join(","))
}

fn class_of(object: &Value) -> Value {
    let old = [
        "metadata",
        "annotations",
        "volume.beta.kubernetes.io/storage-class",
    ];
    let class = object
        .str_at(&old)
        .or_else(|| object.str_at(&["spec", "storageClassName"]));
    Value::from(class.unwrap_or_default())
}

fn phase(object: &Value) -> Value {
    if object.at(&["metadata", "deletionTimestamp"]).is_some() {
        Value::from("Terminating")
    } else {
        table::string(object, &["status", "phase"])
    }
}

fn or_unset(object: &Value, key: &str) -> Value {
    Value::from(object.str_at(&["spec", key]).unwrap_or("<unset>"))
}

pub(super) fn volume(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let claim = object.at(&["spec", "claimRef"]).map(|claim| {
        let text = |key| claim.str_at(&[key]).unwrap_or_default();
        format!("{}/{}", text("namespace"), text("name"))
    });
    vec![
        table::name(object),
        table::string_or(object, &["spec", "capacity", "storage"], "0"),
        access_modes(object.items_at(&["spec", "accessModes"])),
        table::string(object, &["spec", "persistentVolumeReclaimPolicy"]),
        phase(object),
        Value::from(claim.unwrap_or_default()),
        class_of(object),
        or_unset(object, "volumeAttributesClassName"),
        table::string(object, &["status", "reason"]),
        table::age(object, row),
        or_unset(object, "volumeMode"),
    ]
}

pub(super) fn claim(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let bound = !object
        .str_at(&["spec", "volumeName"])
        .unwrap_or_default()
        .is_empty();
    let (capacity, modes) = if bound {
        (
            table::string_or(object, &["status", "capacity", "storage"], "0"),
            access_modes(object.items_at(&["status", "accessModes"])),
        )
    } else {
        (Value::from(""), Value::from(""))
    };
    vec![
        table::name(object),
        phase(object),
        table::string(object, &["spec", "volumeName"]),
        capacity,
        modes,
        class_of(object),
        or_unset(object, "volumeAttributesClassName"),
        table::age(object, row),
        or_unset(object, "volumeMode"),
    ]
}

/// Upstream marks, in lists only, the newest of the default classes; a row knows no other rows, so each is marked.
pub(super) fn class(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let mark = [
        "metadata",
        "annotations",
        "storageclass.kubernetes.io/is-default-class",
    ];
    let default = object.str_at(&mark) == Some("true");
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
    vec![
        Value::from(format!("{name}{}", if default { " (default)" } else { "" })),
        table::string(object, &["provisioner"]),
        table::string_or(object, &["reclaimPolicy"], "Delete"),
        table::string_or(object, &["volumeBindingMode"], "Immediate"),
        Value::from(object.bool_at(&["allowVolumeExpansion"]) == Some(true)),
        table::age(object, row),
    ]
}

pub(super) fn driver(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let flag = |key, default| Value::from(object.bool_at(&["spec", key]).unwrap_or(default));
    let list = |key: &str, of: fn(&Value) -> Option<&str>| -> String {
        let parts: Vec<&str> = object.items_at(&["spec", key]).iter().filter_map(of).collect();
        parts.join(",")
    };
    let tokens = object.at(&["spec", "tokenRequests"]);
    let audiences = list("tokenRequests", |request| request.str_at(&["audience"]));
    vec![
        table::name(object),
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        Value::from(tokens.map_or_else(|| "<unset>".to_owned(), |_| audiences)),
        flag("requiresRepublish", false),
        Value::from(table::or_none(&list("volumeLifecycleModes", Value::as_str))),
        table::age(object, row),
    ]
}
