//! Volumes, and where containers mount them.

use cloudeck_machinery::{Map, Quantity, Value, names};

use super::{containers, env, trust};
use crate::check::{At, Faults, list, present, text};
use crate::storage::check_claim_spec;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// The sources that upstream knows, in the order in which it looks at them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// Checks the volumes of a pod specification; answers the sound ones by name.
pub(super) fn all<'a>(
    volumes: &'a [Value],
    pod: Option<&str>,
    at: &At<'_>,
    faults: &mut Faults,
) -> Vec<(&'a str, &'a Value)> {
    let mut sound: Vec<(&str, &Value)> = Vec::with_capacity(volumes.len());
    let pod = pod.filter(|name| !name.is_empty());
    for (i, volume) in volumes.iter().enumerate() {
        let at = at.index(i);
        let (before, name) = (faults.len(), text(volume, "name"));
        source(volume, name, pod, &at, faults);
        if name.is_empty() {
            faults.required(&at.field("name"), "");
        } else {
            faults.all_invalid(&at.field("name"), name, names::dns1123_label(name));
        }
        if sound.iter().any(|(other, _)| *other == name) {
            faults.duplicate(&at.field("name"), name);
        }
        if faults.len() == before {
            sound.push((name, volume));
        }
        let claim = volume.str_at(&["persistentVolumeClaim", "claimName"]);
        if let (Some(claim), Some(pod)) = (claim, pod)
            && is_made_claim(claim, pod, volumes)
        {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            faults.invalid(&at.field("persistentVolumeClaim").field("claimName"), claim, why);
        }
    }
    sound
}

fn is_made_claim(claim: &str, pod: &str, volumes: &[Value]) -> bool {
    let own = claim.strip_prefix(pod).and_then(|rest| rest.strip_prefix('-'));
    let is_ephemeral =
        |volume: &Value| Some(text(volume, "name")) == own && present(volume, "ephemeral").is_some();
    volumes.iter().any(is_ephemeral)
}

fn source(volume: &Value, name: &str, pod: Option<&str>, at: &At<'_>, faults: &mut Faults) {
    let mut seen = false;
    for kind in present_sources(volume) {
        let Some(source) = present(volume, kind) else {
            continue;
        };
        if seen {
            let kind = match kind {
                "downwardAPI" => "downwarAPI",
                "cephfs" => "cephFS",
                other => other,
            };
            faults.forbidden(&at.field(kind), "may not specify more than 1 volume type");
            continue;
        }
        seen = true;
        one_source(kind, source, &at.field(kind), faults);
        if kind == "ephemeral"
            && let Some(pod) = pod.filter(|_| !name.is_empty())
        {
            let claim = format!("{pod}-{name}");
            for problem in names::dns1123_subdomain(&claim) {
                let why = format!("PVC name {claim:?}: {problem}");
                faults.invalid(&at.field("name"), name, &why);
            }
        }
    }
    if !seen {
        faults.required(at, "must specify a volume type");
    }
}

/// The sources that the volume has, in upstream's order; nearly always one.
fn present_sources(volume: &Value) -> Vec<&'static str> {
    let members = volume.as_object().into_iter().flat_map(Map::iter);
    let mut places: Vec<usize> = members
        .filter(|(_, source)| !source.is_null())
        .filter_map(|(key, _)| SOURCES.iter().position(|kind| *kind == key.as_str()))
        .collect();
    places.sort_unstable();
    places.into_iter().map(|place| SOURCES[place]).collect()
}

/// The source of a volume, by its kind.
pub(crate) fn one_source(kind: &str, source: &Value, at: &At<'_>, faults: &mut Faults) {
    match kind {
        "emptyDir" => empty_dir(source, at, faults),
        "hostPath" => host_path(source, at, faults),
        "secret" => key_files(source, "secretName", at, faults),
        "configMap" => key_files(source, "name", at, faults),
        "downwardAPI" => {
            mode(source, "defaultMode", 0o777, FILE_MODE, at, faults);
            for file in list(source, "items") {
                downward_file(file, at, faults);
            }
        }
        "projected" => projected(source, at, faults),
        "persistentVolumeClaim" => required(source, &["claimName"], at, faults),
        "nfs" => {
            required(source, &["server", "path"], at, faults);
            let path = text(source, "path");
            if !path.starts_with('/') {
                faults.invalid(&at.field("path"), path, "must be an absolute path");
            }
        }
        "ephemeral" => match present(source, "volumeClaimTemplate") {
            None => faults.required(&at.field("volumeClaimTemplate"), ""),
            Some(template) => {
                let at = at.field("volumeClaimTemplate");
                let spec = template.get("spec").unwrap_or(&Value::Null);
                check_claim_spec(spec, &at.field("spec"), faults);
            }
        },
        "image" => {
            required(source, &["reference"], at, faults);
            containers::pull_policy(source, "pullPolicy", at, faults);
        }
        "csi" => required(source, &["driver"], at, faults),
        "gitRepo" => required(source, &["repository"], at, faults),
        _ => {}
    }
}

fn required(source: &Value, fields: &[&str], at: &At<'_>, faults: &mut Faults) {
    for field in fields {
        if text(source, field).is_empty() {
            faults.required(&at.field(field), "");
        }
    }
}

fn mode(source: &Value, field: &str, most: i64, why: &str, at: &At<'_>, faults: &mut Faults) {
    if let Some(mode) = source.int_at(&[field])
        && !(0..=most).contains(&mode)
    {
        faults.invalid(&at.field(field), &mode, why);
    }
}

fn empty_dir(source: &Value, at: &At<'_>, faults: &mut Faults) {
    let limit = source
        .str_at(&["sizeLimit"])
        .and_then(|text| text.parse::<Quantity>().ok());
    if limit.is_some_and(Quantity::is_negative) {
        let why = "SizeLimit field must be a valid resource quantity";
        faults.forbidden(&at.field("sizeLimit"), why);
    }
    let why = "must be a number between 0 and 01777 (octal), both inclusive";
    mode(source, "mode", 0o1777, why, at, faults);
}

fn host_path(source: &Value, at: &At<'_>, faults: &mut Faults) {
    const TYPES: [&str; 8] = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    let path = text(source, "path");
    if path.is_empty() {
        return faults.required(&at.field("path"), "");
    }
    no_backsteps(path, &at.field("path"), faults);
    let kind = text(source, "type");
    if !TYPES.contains(&kind) {
        faults.not_supported(&at.field("type"), kind, &TYPES);
    }
}

/// A volume of a secret's or a config map's keys.
fn key_files(source: &Value, name: &str, at: &At<'_>, faults: &mut Faults) {
    required(source, &[name], at, faults);
    mode(source, "defaultMode", 0o777, FILE_MODE, at, faults);
    for (i, item) in list(source, "items").iter().enumerate() {
        key_to_path(item, &at.field("items").index(i), faults);
    }
}

fn key_to_path(item: &Value, at: &At<'_>, faults: &mut Faults) {
    required(item, &["key", "path"], at, faults);
    unreserved_path(text(item, "path"), &at.field("path"), faults);
    mode(item, "mode", 0o777, FILE_MODE, at, faults);
}

fn downward_file(file: &Value, at: &At<'_>, faults: &mut Faults) {
    required(file, &["path"], at, faults);
    unreserved_path(text(file, "path"), &at.field("path"), faults);
    let (field, resource) = (present(file, "fieldRef"), present(file, "resourceFieldRef"));
    if let Some(field) = field {
        env::field_ref(field, &env::VOLUME_FIELDS, &at.field("fieldRef"), faults);
        if resource.is_some() {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            faults.invalid(at, "resource", why);
        }
    } else if let Some(resource) = resource {
        env::resource_ref(resource, true, &at.field("resourceFieldRef"), faults);
    } else {
        faults.required(at, "one of fieldRef and resourceFieldRef is required");
    }
    mode(file, "mode", 0o777, FILE_MODE, at, faults);
}

fn projected(volume: &Value, at: &At<'_>, faults: &mut Faults) {
    const KINDS: [&str; 6] = [
        "secret",
        "configMap",
        "downwardAPI",
        "serviceAccountToken",
        "clusterTrustBundle",
        "podCertificate",
    ];
    mode(volume, "defaultMode", 0o777, FILE_MODE, at, faults);
    let mut taken: Vec<&str> = Vec::new();
    for (i, source) in list(volume, "sources").iter().enumerate() {
        let sources = at.field("sources");
        let path = sources.index(i);
        for kind in ["secret", "configMap"] {
            if let Some(own) = present(source, kind) {
                projected_keys(own, at, &path.field(kind), &mut taken, faults);
            }
        }
        if let Some(own) = present(source, "downwardAPI") {
            for file in list(own, "items") {
                downward_file(file, &path.field("downwardAPI"), faults);
                let target = text(file, "path");
                take(target, target, at, &mut taken, faults);
            }
        }
        if let Some(own) = present(source, "serviceAccountToken") {
            token(own, at, &path.field("serviceAccountToken"), faults);
        }
        if let Some(own) = present(source, "clusterTrustBundle") {
            let path = path.field("clusterTrustBundle");
            trust::bundle(own, at, &path, &mut taken, faults);
        }
        if let Some(own) = present(source, "podCertificate") {
            let path = path.field("podCertificate");
            trust::certificate(own, at, &path, &mut taken, faults);
        }
        if KINDS
            .iter()
            .filter(|kind| present(source, kind).is_some())
            .count()
            > 1
        {
            let why = "may not specify more than 1 volume type per source";
            faults.forbidden(&path, why);
        }
    }
}

fn projected_keys<'a>(
    own: &'a Value,
    volume: &At<'_>,
    at: &At<'_>,
    taken: &mut Vec<&'a str>,
    faults: &mut Faults,
) {
    required(own, &["name"], at, faults);
    for (i, item) in list(own, "items").iter().enumerate() {
        key_to_path(item, &at.field("items").index(i), faults);
        take(text(item, "path"), text(own, "name"), volume, taken, faults);
    }
}

pub(super) fn take<'a>(
    path: &'a str,
    shown: &str,
    at: &At<'_>,
    taken: &mut Vec<&'a str>,
    faults: &mut Faults,
) {
    if path.is_empty() {
        return;
    }
    if taken.contains(&path) {
        faults.invalid(at, shown, "conflicting duplicate paths");
    } else {
        taken.push(path);
    }
}

fn token(own: &Value, volume: &At<'_>, at: &At<'_>, faults: &mut Faults) {
    let path = at.field("expirationSeconds");
    match own.int_at(&["expirationSeconds"]) {
        None => faults.required(&path, ""),
        Some(seconds) if seconds < 600 => {
            faults.invalid(&path, &seconds, "may not specify a duration less than 10 minutes");
        }
        Some(seconds) if seconds > 1 << 32 => {
            faults.invalid(
                &path,
                &seconds,
                "may not specify a duration larger than 2^32 seconds",
            );
        }
        Some(_) => {}
    }
    // Upstream names the volume's path here, not the source's.
    let path = volume.field("path");
    match text(own, "path") {
        "" => faults.required(&path, ""),
        target => unreserved_path(target, &path, faults),
    }
}

/// A relative path that does not climb.
pub(super) fn local_path(path: &str, at: &At<'_>, faults: &mut Faults) {
    if path.starts_with('/') {
        faults.invalid(at, path, "must be a relative path");
    }
    no_backsteps(path, at, faults);
}

pub(crate) fn no_backsteps(path: &str, at: &At<'_>, faults: &mut Faults) {
    if path.split('/').any(|part| part == "..") {
        faults.invalid(at, path, "must not contain '..'");
    }
}

pub(super) fn unreserved_path(path: &str, at: &At<'_>, faults: &mut Faults) {
    local_path(path, at, faults);
    if path.starts_with("..") && !path.starts_with("../") {
        faults.invalid(at, path, "must not start with '..'");
    }
}
