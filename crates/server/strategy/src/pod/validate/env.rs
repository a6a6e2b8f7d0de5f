//! Environment variables and what they take their values from.

use cloudeck_machinery::{Quantity, Value, names};

use crate::check::{At, Faults, list, present, text};

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What volumes may show of the pod.
pub(super) const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn variables(all: &[Value], at: &At<'_>, faults: &mut Faults) {
    for (i, variable) in all.iter().enumerate() {
        let at = at.index(i);
        let name = text(variable, "name");
        if name.is_empty() {
            faults.required(&at.field("name"), "");
        } else {
            faults.all_invalid(&at.field("name"), name, names::relaxed_env_var_name(name));
        }
        if let Some(source) = present(variable, "valueFrom") {
            value_from(variable, source, &at.field("valueFrom"), faults);
        }
    }
}

fn value_from(variable: &Value, source: &Value, at: &At<'_>, faults: &mut Faults) {
    let mut sources = 0;
    if let Some(own) = present(source, "fieldRef") {
        sources += 1;
        field_ref(own, &ENV_FIELDS, &at.field("fieldRef"), faults);
    }
    if let Some(own) = present(source, "resourceFieldRef") {
        sources += 1;
        resource_ref(own, false, &at.field("resourceFieldRef"), faults);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(own) = present(source, key) {
            sources += 1;
            key_ref(own, &at.field(key), faults);
        }
    }
    if let Some(own) = present(source, "fileKeyRef") {
        sources += 1;
        file_ref(own, &at.field("fileKeyRef"), faults);
    }
    if sources == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        faults.invalid(at, "", why);
    } else if !text(variable, "value").is_empty() {
        faults.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        faults.invalid(at, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(source: &Value, at: &At<'_>, faults: &mut Faults) {
    let (name, key) = (text(source, "name"), text(source, "key"));
    faults.all_invalid(&at.field("name"), name, names::dns1123_subdomain(name));
    if key.is_empty() {
        faults.required(&at.field("key"), "");
    } else {
        faults.all_invalid(&at.field("key"), key, names::config_map_key(key));
    }
}

fn file_ref(source: &Value, at: &At<'_>, faults: &mut Faults) {
    let (key, volume, path) = (
        text(source, "key"),
        text(source, "volumeName"),
        text(source, "path"),
    );
    if key.is_empty() {
        faults.required(&at.field("key"), "");
    } else {
        faults.all_invalid(&at.field("key"), key, names::relaxed_env_var_name(key));
    }
    if volume.is_empty() {
        faults.required(&at.field("volumeName"), "");
    } else {
        faults.all_invalid(&at.field("volumeName"), volume, names::dns1123_label(volume));
    }
    if path.is_empty() {
        faults.required(&at.field("path"), "");
    } else {
        super::volumes::no_backsteps(path, &at.field("path"), faults);
    }
}

/// A reference to a field of the pod, among `supported`.
pub(super) fn field_ref(source: &Value, supported: &[&str], at: &At<'_>, faults: &mut Faults) {
    let (version, label) = (text(source, "apiVersion"), text(source, "fieldPath"));
    if version.is_empty() {
        return faults.required(&at.field("apiVersion"), "");
    }
    if label.is_empty() {
        return faults.required(&at.field("fieldPath"), "");
    }
    let known = match known_label(version, label) {
        Ok(known) => known,
        Err(why) => {
            let why = format!("error converting fieldPath: {why}");
            return faults.invalid(&at.field("fieldPath"), label, &why);
        }
    };
    match subscript(known) {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            faults.all_invalid(at, key.as_str(), names::qualified_name(&key));
        }
        Some((_, key)) => faults.all_invalid(at, key, names::qualified_name(key)),
        None if !supported.contains(&known) => {
            faults.not_supported(&at.field("fieldPath"), known, supported);
        }
        None => {}
    }
}

/// The field that a label of the downward API names.
fn known_label<'a>(version: &str, label: &'a str) -> Result<&'a str, String> {
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    if let Some((path, _)) = subscript(label) {
        return match path {
            "metadata.annotations" | "metadata.labels" => Ok(label),
            _ => Err(format!("field label does not support subscript: {label}")),
        };
    }
    match label {
        "spec.host" => Ok("spec.nodeName"),
        "metadata.annotations"
        | "metadata.labels"
        | "spec.restartPolicy"
        | "spec.schedulerName"
        | "status.phase" => Ok(label),
        _ if ENV_FIELDS.contains(&label) => Ok(label),
        _ => Err(format!("field label not supported: {label}")),
    }
}

/// Splits `metadata.labels['a']`.
fn subscript(label: &str) -> Option<(&str, &str)> {
    let (path, key) = label.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

/// A reference to the resources of a container; in volumes the container must be named.
pub(super) fn resource_ref(source: &Value, in_volume: bool, at: &At<'_>, faults: &mut Faults) {
    let resource = text(source, "resource");
    let huge = ["requests.hugepages-", "limits.hugepages-"]
        .iter()
        .any(|prefix| resource.starts_with(prefix));
    if in_volume && text(source, "containerName").is_empty() {
        faults.required(&at.field("containerName"), "");
    } else if resource.is_empty() {
        faults.required(&at.field("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        faults.not_supported(&at.field("resource"), resource, &RESOURCES);
    }
    divisor(source, resource, huge, at, faults);
}

fn divisor(source: &Value, resource: &str, huge: bool, at: &At<'_>, faults: &mut Faults) {
    const SIZES: [&str; 13] = [
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let divisor = text(source, "divisor");
    let zero = divisor.is_empty() || divisor.parse::<Quantity>().is_ok_and(Quantity::is_zero);
    if zero {
        return;
    }
    let path = at.field("divisor");
    let mut sizes = |what: &str| {
        if !SIZES.contains(&divisor) {
            let why = format!(
                "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the {what} resource"
            );
            faults.invalid(&path, resource, &why);
        }
    };
    match resource {
        "limits.memory" | "requests.memory" => sizes("memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => sizes("local ephemeral storage"),
        _ if huge => sizes("hugepages"),
        "limits.cpu" | "requests.cpu" if !matches!(divisor, "1m" | "1") => {
            let why = "only divisor's values 1m and 1 are supported with the cpu resource";
            faults.invalid(&path, resource, why);
        }
        _ => {}
    }
}

/// `envFrom`.
pub(super) fn sources(all: &[Value], at: &At<'_>, faults: &mut Faults) {
    for (i, source) in all.iter().enumerate() {
        let own = at.index(i);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            let problems = names::relaxed_env_var_name(prefix);
            faults.all_invalid(&own.field("prefix"), prefix, problems);
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            let Some(reference) = present(source, key) else {
                continue;
            };
            count += 1;
            let path = own.field(key);
            let name = text(reference, "name");
            if name.is_empty() {
                faults.required(&path.field("name"), "");
            } else {
                // Upstream judges it as a prefix, which may end with a dash.
                let problems = names::dns1123_subdomain(&names::generated_name(name));
                faults.all_invalid(&path.field("name"), name, problems);
            }
        }
        match count {
            0 => faults.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => faults.invalid(at, "", "may not have more than one field specified at a time"),
        }
    }
}

/// File references of variables must lead to `emptyDir` volumes of the pod.
pub(super) fn file_volumes(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let volumes = list(spec, "volumes");
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in list(spec, key).iter().enumerate() {
            for (j, variable) in list(container, "env").iter().enumerate() {
                let Some(name) = variable.str_at(&["valueFrom", "fileKeyRef", "volumeName"]) else {
                    continue;
                };
                let containers = at.field(key);
                let container = containers.index(i);
                let variables = container.field("env");
                let variable = variables.index(j);
                let source = variable.field("valueFrom");
                let file = source.field("fileKeyRef");
                let path = file.field("volumeName");
                match volumes.iter().find(|volume| text(volume, "name") == name) {
                    None => faults.not_found(&path, name, ""),
                    Some(volume) if present(volume, "emptyDir").is_none() => {
                        faults.invalid(&path, name, "referenced volume must be of type emptyDir");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
