//! What upstream warns of in pods and templates: valid, but hardly meant.
//!
//! Source: `pkg/api/pod/warnings.go`.

mod paths;

use cloudeck_machinery::{Quantity, Value, names};

use crate::check::{At, entries, list, number, present, text};
use crate::{node_labels, storage};

const SPEC: At<'static> = At::root("spec");
const METADATA: At<'static> = At::root("metadata");
const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Warnings on a new pod. Updates of pods, which humans seldom make, are not looked at.
pub(super) fn pod(pod: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() {
        let use_of = "this is used in the Pod's hostname, which can result in surprising behavior";
        name(pod, use_of, &mut found);
        specification(pod, &SPEC, &METADATA, &mut found);
    }
    found
}

/// Of a template kind's object, which has no generation, only the first write is looked at.
pub(super) fn template_kind(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() {
        under(object, &["template"], &At::root("template"), &mut found);
    }
    found
}

/// Of the template that stands at a path.
pub(crate) fn under(object: &Value, path: &[&str], at: &At<'_>, found: &mut Vec<String>) {
    if let Some(template) = object.at(path) {
        specification(template, &at.field("spec"), &at.field("metadata"), found);
        unused_profiles(template, &at.field("metadata"), found);
    }
}

/// Annotations that were fields' forerunners. (Of pods themselves upstream takes them over into the fields.)
fn unused_profiles(template: &Value, metadata: &At<'_>, found: &mut Vec<String>) {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let Some(own) = template.at(&["metadata", "annotations"]) else {
        return;
    };
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let all = metadata.field("annotations");
    for (_, _, container) in visit(spec) {
        let profile = |object: &Value| object.at(&["securityContext", "appArmorProfile"]).is_some();
        let key = format!("{PREFIX}{}", text(container, "name"));
        if own.get(&key).is_some() && !profile(container) && !profile(spec) {
            let why = r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;
            found.push(format!("{}: {why}", all.key(&key)));
        }
    }
}

pub(crate) fn name(object: &Value, use_of: &str, found: &mut Vec<String>) {
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
    let problems = names::dns1123_label(name);
    if !problems.is_empty() {
        let problems = problems.join(" ");
        found.push(format!(
            "metadata.name: {use_of}; a DNS label is recommended: [{problems}]"
        ));
    }
}

fn specification(pod: &Value, at: &At<'_>, metadata: &At<'_>, found: &mut Vec<String>) {
    let Some(spec) = pod.get("spec") else { return };
    node_selection(spec, at, found);
    spreading(spec, at, found);
    annotations(pod, spec, metadata, found);
    volumes(spec, at, found);
    paths::overlapping(spec, found);
    repeated(spec, "hostAliases", "ip", at, found);
    repeated(spec, "imagePullSecrets", "name", at, found);
    containers(spec, at, found);
    ports(spec, at, found);
    affinity(spec, at, found);
    addresses(spec, at, found);
}

fn node_selection(spec: &Value, at: &At<'_>, found: &mut Vec<String>) {
    for (key, _) in entries(spec, "nodeSelector") {
        if let Some(why) = node_labels::deprecated(key) {
            found.push(format!("{}: {why}", at.field("nodeSelector").key(key)));
        }
    }
    let Some(own) = spec.at(&["affinity", "nodeAffinity"]) else {
        return;
    };
    let at = at.field("affinity");
    let at = at.field("nodeAffinity");
    let required = at.field(REQUIRED);
    let terms = required.field("nodeSelectorTerms");
    for (i, term) in own.items_at(&[REQUIRED, "nodeSelectorTerms"]).iter().enumerate() {
        node_labels::warn_of_keys(term, &terms.index(i), found);
    }
    let preferred = at.field(PREFERRED);
    for (i, wish) in list(own, PREFERRED).iter().enumerate() {
        let wished = preferred.index(i);
        let (term, at) = (
            wish.get("preference").unwrap_or(&Value::Null),
            wished.field("preference"),
        );
        node_labels::warn_of_keys(term, &at, found);
        node_labels::warn_of_values(term, &at, found);
    }
}

fn spreading(spec: &Value, at: &At<'_>, found: &mut Vec<String>) {
    let all = at.field("topologySpreadConstraints");
    for (i, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = all.index(i);
        let key = text(constraint, "topologyKey");
        if let Some(why) = node_labels::deprecated(key) {
            found.push(format!("{}: {key} is {why}", at.field("topologyKey")));
        }
        if present(constraint, "labelSelector").is_none() {
            found.push(format!("{}: {NULL_SELECTOR}", at.field("labelSelector")));
        }
    }
}

fn annotations(pod: &Value, spec: &Value, metadata: &At<'_>, found: &mut Vec<String>) {
    const DEAD: [(&str, &str); 3] = [
        (
            "scheduler.alpha.kubernetes.io/critical-pod",
            r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
        ),
        (
            "security.alpha.kubernetes.io/sysctls",
            r#"non-functional in v1.11+; use the "sysctls" field instead"#,
        ),
        (
            "security.alpha.kubernetes.io/unsafe-sysctls",
            r#"non-functional in v1.11+; use the "sysctls" field instead"#,
        ),
    ];
    const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
    let Some(own) = pod.at(&["metadata", "annotations"]) else {
        return;
    };
    let at = metadata.field("annotations");
    for (key, why) in DEAD {
        if own.get(key).is_some() {
            found.push(format!("{}: {why}", at.key(key)));
        }
    }
    if own.get(SECCOMP).is_some() && spec.at(&["securityContext", "seccompProfile"]).is_none() {
        let why = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;
        found.push(format!("{}: {why}", at.key(SECCOMP)));
    }
}

fn volumes(spec: &Value, at: &At<'_>, found: &mut Vec<String>) {
    const GONE: [(&str, &str, &str); 9] = [
        (
            "photonPersistentDisk",
            "photonPersistentDisk",
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            "gitRepo",
            "gitRepo",
            "deprecated in v1.11, and disabled by default in v1.33+",
        ),
        (
            "scaleIO",
            "scaleIO",
            "deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            "flocker",
            "flocker",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "storageos",
            "storageOS",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "quobyte",
            "quobyte",
            "deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            "glusterfs",
            "glusterfs",
            "deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            "cephfs",
            "cephfs",
            "deprecated in v1.28, non-functional in v1.31+",
        ),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let all = at.field("volumes");
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        for (source, shown, why) in GONE {
            if present(volume, source).is_some() {
                found.push(format!("{}: {why}", all.index(i).field(shown)));
            }
        }
        if let Some(claim) = volume.at(&["ephemeral", "volumeClaimTemplate", "spec"]) {
            let at = all.index(i);
            let at = at.field("ephemeral");
            let at = at.field("volumeClaimTemplate");
            storage::claim_spec_warnings(claim, &at.field("spec"), found);
        }
    }
}

fn repeated(spec: &Value, field: &str, key: &str, at: &At<'_>, found: &mut Vec<String>) {
    let all = list(spec, field);
    let at = at.field(field);
    for (i, item) in all.iter().enumerate() {
        let own = text(item, key);
        let place = at.index(i);
        if all[..i].iter().any(|other| text(other, key) == own) {
            found.push(format!("{}: duplicate {key} {own:?}", place.field(key)));
        }
        if key == "name" && own.is_empty() {
            found.push(format!("{}: invalid empty name \"\"", place.field(key)));
        }
    }
}

/// The containers in the order in which upstream visits them, with their lists.
fn visit(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(move |key| {
        let all = list(spec, key).iter().enumerate();
        all.map(move |(i, container)| (key, i, container))
    })
}

fn containers(spec: &Value, at: &At<'_>, found: &mut Vec<String>) {
    for (key, i, container) in visit(spec) {
        let containers = at.field(key);
        let at = containers.index(i);
        if let Some(resources) = present(container, "resources") {
            for resource in ["memory", "ephemeral-storage"] {
                for kind in ["limits", "requests"] {
                    let Some(amount) = resources.str_at(&[kind, resource]) else {
                        continue;
                    };
                    let fractional = amount
                        .parse::<Quantity>()
                        .is_ok_and(|amount| amount.milli_value() % 1000 != 0);
                    if fractional {
                        let path = at.field("resources");
                        let path = path.field(kind);
                        let why = format!("fractional byte value {amount:?} is invalid, must be an integer");
                        found.push(format!("{}: {why}", path.key(resource)));
                    }
                }
            }
        }
        hidden_variables(list(container, "env"), &at.field("env"), found);
    }
}

fn hidden_variables(all: &[Value], at: &At<'_>, found: &mut Vec<String>) {
    for (i, variable) in all.iter().enumerate() {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        if !all[..i].iter().any(|other| text(other, "name") == name) {
            continue;
        }
        // To extend what was there before is fine.
        let reference = format!("$({name})");
        let extends =
            present(variable, "valueFrom").is_none() && value != reference && value.contains(&reference);
        if !extends {
            let why = "which may be dropped when using apply";
            found.push(format!(
                "{}: hides previous definition of {name:?}, {why}",
                at.index(i)
            ));
        }
    }
}

fn ports(spec: &Value, at: &At<'_>, found: &mut Vec<String>) {
    let mut seen: Vec<(String, &Value)> = Vec::new();
    for (key, i, container) in visit(spec) {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let containers = at.field(key);
            let container = containers.index(i);
            let ports = container.field("ports");
            let place = ports.index(j).to_string();
            if !text(port, "hostIP").is_empty() && number(port, "hostPort") == 0 {
                let shown = format!(
                    "{{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                    text(port, "name"),
                    number(port, "containerPort"),
                    text(port, "protocol"),
                    text(port, "hostIP")
                );
                found.push(format!("{place}: hostIP set without hostPort: {shown}"));
            }
            for (other_place, other) in &seen {
                if let Some(what) = port_conflict(port, other) {
                    found.push(format!("{place}: {what} port definition with {other_place}"));
                }
            }
            seen.push((place, port));
        }
    }
    for (i, (place, port)) in seen.iter().enumerate() {
        let name = text(port, "name");
        let first = seen[..i].iter().find(|(_, other)| text(other, "name") == name);
        if let Some((first, _)) = first.filter(|_| !name.is_empty()) {
            let why = format!("services and probes that select ports by name will use {first}");
            found.push(format!(
                "{place}: duplicate port name {name:?} with {first}, {why}"
            ));
        }
    }
}

fn port_conflict(port: &Value, other: &Value) -> Option<&'static str> {
    let same_number = |key| number(port, key) == number(other, key);
    let same_text = |key| text(port, key) == text(other, key);
    if !same_number("containerPort") || !same_text("protocol") {
        return None;
    }
    let open = |port: &Value| text(port, "hostIP").is_empty();
    if same_text("hostIP") && same_number("hostPort") {
        Some("duplicate")
    } else if number(port, "hostPort") == 0 || number(other, "hostPort") == 0 {
        Some("overlapping")
    } else if same_number("hostPort") && open(port) != open(other) {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

fn affinity(spec: &Value, at: &At<'_>, found: &mut Vec<String>) {
    let Some(affinity) = present(spec, "affinity") else {
        return;
    };
    let at = at.field("affinity");
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(own) = present(affinity, kind) else {
            continue;
        };
        let at = at.field(kind);
        for (i, term) in list(own, REQUIRED).iter().enumerate() {
            if present(term, "labelSelector").is_none() {
                let place = at.field(REQUIRED);
                found.push(format!(
                    "{}: {NULL_SELECTOR}",
                    place.index(i).field("labelSelector")
                ));
            }
        }
        for (i, term) in list(own, PREFERRED).iter().enumerate() {
            if term.at(&["podAffinityTerm", "labelSelector"]).is_none() {
                let place = at.field(PREFERRED);
                let place = place.index(i);
                let place = place.field("podAffinityTerm");
                found.push(format!("{}: {NULL_SELECTOR}", place.field("labelSelector")));
            }
        }
    }
}

fn addresses(spec: &Value, at: &At<'_>, found: &mut Vec<String>) {
    let servers = spec.items_at(&["dnsConfig", "nameservers"]);
    for (i, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        let place = at.field("dnsConfig");
        let place = place.field("nameservers");
        found.extend(names::ip_warnings(&place.index(i).to_string(), server));
    }
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let place = at.field("hostAliases");
        let place = place.index(i).field("ip").to_string();
        found.extend(names::ip_warnings(&place, text(alias, "ip")));
    }
}

#[cfg(test)]
mod tests;
