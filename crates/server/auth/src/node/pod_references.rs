//! What a pod, or a volume, refers to.

use cloudeck_machinery::Value;

use super::graph::{Kind, Reference};

/// Everything a pod's node may read for it. A mirror pod refers to nothing: a node must not be able to make a pod that
/// gives it access.
pub(super) fn pod_references(namespace: &str, pod: &Value) -> Vec<Reference> {
    if pod
        .at(&["metadata", "annotations", "kubernetes.io/config.mirror"])
        .is_some()
    {
        return Vec::new();
    }
    let mut references = Vec::new();
    visit_pod(pod, &mut |kind, name| {
        let reference = Reference::new(kind, namespace, name);
        if !references.contains(&reference) {
            references.push(reference);
        }
    });
    references
}

/// The objects in its namespace that a pod names: their resource and name, in no particular order.
pub fn named_by_pod(pod: &Value) -> Vec<(&'static str, String)> {
    let mut named = Vec::new();
    visit_pod(pod, &mut |kind, name| {
        named.push((kind.resource(), name.to_owned()));
    });
    named
}

fn visit_pod(pod: &Value, visitor: &mut dyn FnMut(Kind, &str)) {
    let mut add = |kind, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            visitor(kind, name);
        }
    };
    add(Kind::ServiceAccount, pod.str_at(&["spec", "serviceAccountName"]));
    for secret in pod.items_at(&["spec", "imagePullSecrets"]) {
        add(Kind::Secret, secret.str_at(&["name"]));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in pod.items_at(&["spec", list]) {
            for source in container.items_at(&["envFrom"]) {
                add(Kind::Secret, source.str_at(&["secretRef", "name"]));
                add(Kind::ConfigMap, source.str_at(&["configMapRef", "name"]));
            }
            for variable in container.items_at(&["env"]) {
                add(
                    Kind::Secret,
                    variable.str_at(&["valueFrom", "secretKeyRef", "name"]),
                );
                add(
                    Kind::ConfigMap,
                    variable.str_at(&["valueFrom", "configMapKeyRef", "name"]),
                );
            }
        }
    }
    let pod_name = pod.str_at(&["metadata", "name"]).unwrap_or_default();
    for volume in pod.items_at(&["spec", "volumes"]) {
        add_volume(volume, pod_name, &mut add);
    }
    for status in pod.items_at(&["status", "resourceClaimStatuses"]) {
        add(Kind::ResourceClaim, status.str_at(&["resourceClaimName"]));
    }
    for claim in pod.items_at(&["spec", "resourceClaims"]) {
        add(Kind::ResourceClaim, claim.str_at(&["resourceClaimName"]));
    }
}

fn add_volume(volume: &Value, pod_name: &str, add: &mut impl FnMut(Kind, Option<&str>)) {
    add(Kind::ConfigMap, volume.str_at(&["configMap", "name"]));
    add(Kind::Secret, volume.str_at(&["secret", "secretName"]));
    add(Kind::Secret, volume.str_at(&["azureFile", "secretName"]));
    add(
        Kind::Secret,
        volume.str_at(&["csi", "nodePublishSecretRef", "name"]),
    );
    for source in WITH_SECRET_REF {
        add(Kind::Secret, volume.str_at(&[source, "secretRef", "name"]));
    }
    for source in volume.items_at(&["projected", "sources"]) {
        add(Kind::Secret, source.str_at(&["secret", "name"]));
        add(Kind::ConfigMap, source.str_at(&["configMap", "name"]));
    }
    add(
        Kind::PersistentVolumeClaim,
        volume.str_at(&["persistentVolumeClaim", "claimName"]),
    );
    if volume.at(&["ephemeral"]).is_some() {
        let claim = format!("{pod_name}-{}", volume.str_at(&["name"]).unwrap_or_default());
        add(Kind::PersistentVolumeClaim, Some(&claim));
    }
}

const WITH_SECRET_REF: [&str; 7] = [
    "cephfs",
    "cinder",
    "flexVolume",
    "rbd",
    "scaleIO",
    "iscsi",
    "storageos",
];

/// The secrets with which a node mounts a volume; without a namespace of their own they are in the claim's.
pub(super) fn volume_secrets(claim_namespace: &str, volume: &Value) -> Vec<Reference> {
    let Some(spec) = volume.at(&["spec"]) else {
        return Vec::new();
    };
    let csi = [
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "nodeExpandSecretRef",
    ]
    .map(|field| ["csi", field]);
    let plain = WITH_SECRET_REF.map(|source| [source, "secretRef"]);
    let mut secrets = Vec::new();
    for path in csi.iter().chain(&plain) {
        let Some(reference) = spec.at(path) else { continue };
        let Some(name) = reference.str_at(&["name"]).filter(|name| !name.is_empty()) else {
            continue;
        };
        let namespace = reference
            .str_at(&["namespace"])
            .filter(|namespace| !namespace.is_empty());
        secrets.push(Reference::new(
            Kind::Secret,
            namespace.unwrap_or(claim_namespace),
            name,
        ));
    }
    if let Some(name) = spec.str_at(&["azureFile", "secretName"]) {
        let namespace = spec
            .str_at(&["azureFile", "secretNamespace"])
            .unwrap_or(claim_namespace);
        secrets.push(Reference::new(Kind::Secret, namespace, name));
    }
    secrets
}
