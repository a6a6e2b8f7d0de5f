//! What the standard "restricted" demands beyond "baseline".

use std::collections::BTreeSet;

use cloudeck_machinery::Value;

use super::baseline;
use super::checks::{Pod, Violation, bad_setters, containers, join_quoted, listed, name_of, plural};

const ALLOWED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// As upstream asks for them one after another.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.containers_where(|container| {
        container.bool_at(&["securityContext", "allowPrivilegeEscalation"]) != Some(false)
    });
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers(&bad)
        );
        Violation::new("allowPrivilegeEscalation != false", detail)
    })
}

pub(super) fn privilege_escalation_unless_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        None
    } else {
        privilege_escalation(pod)
    }
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    fn names<'a>(container: &'a Value, field: &'a str) -> impl Iterator<Item = &'a str> {
        container
            .items_at(&["securityContext", "capabilities", field])
            .iter()
            .filter_map(Value::as_str)
    }
    let keeping = pod.containers_where(|container| !names(container, "drop").any(|name| name == "ALL"));
    let mut forbidden = BTreeSet::new();
    let adding = pod.containers_where(|container| {
        let found: Vec<&str> = names(container, "add")
            .filter(|name| *name != "NET_BIND_SERVICE")
            .collect();
        forbidden.extend(found.iter().map(|name| (*name).to_owned()));
        !found.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keeping)
        ));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            listed(&forbidden)
        ));
    }
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

pub(super) fn capabilities_unless_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let set = |volume: &Value, source: &str| volume.get(source).is_some_and(|value| !value.is_null());
    let volumes = pod.spec.items_at(&["volumes"]).iter();
    let bad: Vec<&Value> = volumes
        .filter(|volume| !ALLOWED_VOLUMES.iter().any(|source| set(volume, source)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let kind = |volume: &&Value| {
        OTHER_VOLUMES
            .into_iter()
            .find(|source| set(volume, source))
            .unwrap_or("unknown")
            .to_owned()
    };
    let kinds: BTreeSet<String> = bad.iter().map(kind).collect();
    let names: Vec<String> = bad.into_iter().map(name_of).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        join_quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        listed(&kinds)
    );
    Some(Violation::new("restricted volume types", detail))
}

pub(super) fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    const PATH: [&str; 2] = ["securityContext", "runAsNonRoot"];
    const REASON: &str = "runAsNonRoot != true";
    if let Some(who) = bad_setters(pod, &["runAsNonRoot"], |value| value.as_bool() == Some(false)) {
        return Some(Violation::new(
            REASON,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        ));
    }
    if pod.spec.bool_at(&PATH) == Some(true) {
        return None;
    }
    let silent = pod.containers_where(|container| container.bool_at(&PATH).is_none());
    (!silent.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            containers(&silent)
        );
        Violation::new(REASON, detail)
    })
}

pub(super) fn run_as_non_root_unless_user_namespace(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() {
        None
    } else {
        run_as_non_root(pod)
    }
}

pub(super) fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    let who = bad_setters(pod, &["runAsUser"], |value| value.as_int() == Some(0))?;
    Some(Violation::new(
        "runAsUser=0",
        format!("{who} must not set runAsUser=0"),
    ))
}

pub(super) fn run_as_user_unless_user_namespace(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() {
        None
    } else {
        run_as_user(pod)
    }
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    const PATH: [&str; 2] = ["securityContext", "seccompProfile"];
    let set = |tree: &Value| tree.at(&PATH).is_some_and(|profile| !profile.is_null());
    if let Some(explicit) = baseline::seccomp(pod) {
        return Some(explicit);
    }
    if set(pod.spec) {
        return None;
    }
    let silent = pod.containers_where(|container| !set(container));
    (!silent.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        );
        Violation::new("seccompProfile", detail)
    })
}

pub(super) fn seccomp_unless_windows(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { seccomp(pod) }
}
