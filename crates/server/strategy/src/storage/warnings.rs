//! What upstream warns of in volumes, claims and their classes.
//!
//! Source: `pkg/api/{persistentvolume,persistentvolumeclaim,storage}`.

use cloudeck_machinery::{Quantity, Value};

use crate::check::{At, list, present, text};
use crate::node_labels;

const SPEC: At<'static> = At::root("spec");
const METADATA: At<'static> = At::root("metadata");
const OLD_CLASS: (&str, &str) = (
    "volume.beta.kubernetes.io/storage-class",
    r#"deprecated since v1.8; use "storageClassName" attribute instead"#,
);
const OLD_OPTIONS: (&str, &str) = (
    "volume.beta.kubernetes.io/mount-options",
    r#"deprecated since v1.31; use "mountOptions" attribute instead"#,
);

fn annotations(object: &Value, old: &[(&str, &str)], found: &mut Vec<String>) {
    for (key, why) in old {
        if object.at(&["metadata", "annotations", key]).is_some() {
            found.push(format!("{}: {why}", METADATA.field("annotations").key(key)));
        }
    }
}

pub(super) fn volume(volume: &Value, _old: Option<&Value>) -> Vec<String> {
    const GONE: [(&str, &str, &str); 6] = [
        (
            "cephfs",
            "cephfs",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            "photonPersistentDisk",
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            "scaleIO",
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            "storageos",
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "glusterfs",
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let mut found = Vec::new();
    annotations(volume, &[OLD_CLASS, OLD_OPTIONS], &mut found);
    let Some(spec) = volume.get("spec") else {
        return found;
    };
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let why = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        found.push(format!("spec.persistentVolumeReclaimPolicy: {why}"));
    }
    let at = At::root("spec.nodeAffinity.required.nodeSelectorTerms");
    let terms = spec.items_at(&["nodeAffinity", "required", "nodeSelectorTerms"]);
    for (i, term) in terms.iter().enumerate() {
        node_labels::warn_of_keys(term, &at.index(i), &mut found);
    }
    for (source, shown, why) in GONE {
        if present(spec, source).is_some() {
            found.push(format!("{}: {why}", SPEC.field(shown)));
        }
    }
    found
}

pub(super) fn claim(claim: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    annotations(claim, &[OLD_CLASS], &mut found);
    if let Some(spec) = claim.get("spec") {
        claim_spec(spec, &SPEC, &mut found);
    }
    found
}

/// Of the specification of a claim, wherever it stands.
pub(crate) fn claim_spec(spec: &Value, at: &At<'_>, found: &mut Vec<String>) {
    let resources = at.field("resources");
    for kind in ["requests", "limits"] {
        let amount = spec.str_at(&["resources", kind, "storage"]).unwrap_or_default();
        let whole = |amount: Quantity| amount.milli_value() % 1000 == 0;
        if amount.parse().is_ok_and(|amount| !whole(amount)) {
            let why = format!("fractional byte value {amount:?} is invalid, must be an integer");
            found.push(format!("{}: {why}", resources.field(kind).key("storage")));
        }
    }
}

pub(super) fn class(class: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    let all = At::root("allowedTopologies");
    for (i, topology) in list(class, "allowedTopologies").iter().enumerate() {
        let at = all.index(i);
        let expressions = at.field("matchLabelExpressions");
        for (j, expression) in list(topology, "matchLabelExpressions").iter().enumerate() {
            if let Some(why) = node_labels::deprecated(text(expression, "key")) {
                found.push(format!("{}: {why}", expressions.index(j).field("key")));
            }
        }
    }
    found
}

/// Tokens that are handed to a driver should go where secrets go.
pub(super) fn driver(driver: &Value, old: Option<&Value>) -> Vec<String> {
    let requests = |driver: &Value| driver.items_at(&["spec", "tokenRequests"]).to_vec();
    let own = requests(driver);
    let is_new = old.is_none_or(|old| requests(old) != own);
    if own.is_empty() || !is_new || driver.at(&["spec", "serviceAccountTokenInSecrets"]).is_some() {
        return Vec::new();
    }
    let why = "if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
    vec![format!("spec.serviceAccountTokenInSecrets is unset; {why}")]
}

#[cfg(test)]
mod tests {
    use crate::expect::check_warnings;

    #[test]
    fn what_volumes_should_not_use_any_more() {
        check_warnings(
            "",
            "PersistentVolume",
            r#"{"metadata":{"annotations":{"volume.beta.kubernetes.io/storage-class":"x"}},
                "spec":{"persistentVolumeReclaimPolicy":"Recycle","rbd":{},"nodeAffinity":{"required":{"nodeSelectorTerms":[
                {"matchExpressions":[{"key":"beta.kubernetes.io/os","operator":"Exists"}]}]}}}}"#,
            &[
                r#"metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead"#,
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
                r#"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead"#,
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ],
        );
        check_warnings(
            "",
            "PersistentVolumeClaim",
            r#"{"spec":{"resources":{"requests":{"storage":"1500m"}}}}"#,
            &[
                r#"spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer"#,
            ],
        );
        check_warnings(
            "storage.k8s.io",
            "StorageClass",
            r#"{"allowedTopologies":[{"matchLabelExpressions":[{"key":"failure-domain.beta.kubernetes.io/zone"}]}]}"#,
            &[
                r#"allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
            ],
        );
    }

    #[test]
    fn tokens_of_drivers_are_warned_of_when_they_come() {
        let driver = r#"{"spec":{"tokenRequests":[{"audience":"a"}]}}"#;
        let why = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
        check_warnings("storage.k8s.io", "CSIDriver", driver, &[why]);
        let tree = crate::expect::tree(driver);
        assert!(super::driver(&tree, Some(&tree)).is_empty());
    }
}
