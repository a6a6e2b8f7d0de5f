//! Which part of an object a request may touch: everything but status through the object itself, status (and metadata,
//! mostly) through `/status`, other parts through the other subresources.

use cloudeck_machinery::Value;

use crate::kinds::Kind;

/// Puts back what the request may not touch.
pub(crate) fn keep_others(kind: &Kind, subresource: &str, new: &mut Value, old: &Value) {
    match subresource {
        "" if kind.info.has_status => restore(new, old, &["status"]),
        "status" => keep_all_but_status(kind, new, old),
        "approval" => keep_all_but(new, old, &["status", "metadata"]),
        "finalize" => keep_all_but(new, old, &["spec", "metadata"]),
        "ephemeralcontainers" => keep_ephemeral(new, old),
        "resize" => keep_all_but(new, old, &["spec"]),
        _ => {}
    }
}

fn restore(new: &mut Value, old: &Value, path: &[&str]) {
    match old.at(path) {
        Some(value) => {
            new.set_at(path, value.clone());
        }
        None => {
            new.remove_at(path);
        }
    }
}

fn keep_all_but(new: &mut Value, old: &Value, free: &[&str]) {
    let names = |tree: &Value| -> Vec<String> {
        tree.as_object()
            .map(|map| map.keys().map(ToString::to_string).collect())
            .unwrap_or_default()
    };
    let mut all = names(new);
    all.extend(names(old));
    for name in all {
        if !free.contains(&name.as_str()) {
            restore(new, old, &[&name]);
        }
    }
}

/// The spec stays. Of the metadata most kinds keep nothing; newer ones keep all that is not the server's.
///
/// Source: `PrepareForUpdate` of the status strategies in `pkg/registry/*/*/strategy.go`.
fn keep_all_but_status(kind: &Kind, new: &mut Value, old: &Value) {
    keep_all_but(new, old, &["status", "metadata"]);
    let kept: &[&str] = match (kind.group(), kind.plural()) {
        ("", "pods") => &["ownerReferences"],
        ("apps", "deployments") => &["labels"],
        ("certificates.k8s.io", "podcertificaterequests")
        | ("networking.k8s.io", "servicecidrs")
        | ("storagemigration.k8s.io", "storageversionmigrations")
        | ("resource.k8s.io", "resourceclaims" | "devicetaintrules")
        | ("storage.k8s.io", "csinodes" | "volumeattachments")
        | ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
            &["labels", "annotations", "finalizers", "ownerReferences"]
        }
        _ => &[],
    };
    for field in kept {
        restore(new, old, &["metadata", field]);
    }
}

fn keep_ephemeral(new: &mut Value, old: &Value) {
    let containers = new.at(&["spec", "ephemeralContainers"]).cloned();
    *new = old.clone();
    if let Some(containers) = containers {
        new.set_at(&["spec", "ephemeralContainers"], containers);
    }
}
