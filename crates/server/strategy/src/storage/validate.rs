//! Validation of claims, volumes and storage classes.
//!
//! Source: `pkg/apis/core/validation/validation.go`, `pkg/apis/storage/validation/validation.go`. Absent: the insides of
//! in-tree volume kinds that no cluster runs any more.

use cloudeck_machinery::{Cause, Quantity, Value, names};

use crate::check::{At, Faults, entries, list, present, text};
use crate::pod::validate as pod;

const SPEC: At<'static> = At::root("spec");

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const MOST_PARAMETERS: usize = 512;
const MOST_PARAMETER_BYTES: usize = 256 * 1024;

/// The kinds of volumes that a PersistentVolume can be.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

pub(super) fn claim(claim: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    claim_spec(claim.get("spec").unwrap_or(&none), &SPEC, &mut faults);
    faults.into_causes()
}

/// The specification of a claim, or of one that a set or a pod is to make.
pub(crate) fn claim_spec(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        faults.required(&at.field("accessModes"), "at least 1 access mode is required");
    }
    faults.label_selector(&at.field("selector"), spec.get("selector"));
    access_modes(modes, at, faults);
    let at_storage = at.field("resources");
    let at_storage = at_storage.key("storage");
    match spec.str_at(&["resources", "requests", "storage"]) {
        None => faults.required(&at_storage, ""),
        Some(amount) if !is_positive(amount) => {
            faults.invalid(&at_storage, amount, "must be greater than zero");
        }
        Some(_) => {}
    }
    class_name(spec, "storageClassName", at, faults);
    one_of_modes(spec, at, faults);
    data_sources(spec, at, faults);
    class_name(spec, "volumeAttributesClassName", at, faults);
}

fn is_positive(amount: &str) -> bool {
    amount
        .parse::<Quantity>()
        .is_ok_and(|amount| !amount.is_zero() && !amount.is_negative())
}

fn access_modes(modes: &[Value], at: &At<'_>, faults: &mut Faults) {
    let at = at.field("accessModes");
    let modes: Vec<&str> = modes.iter().filter_map(Value::as_str).collect();
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        faults.not_supported(&at, *mode, &ACCESS_MODES);
    }
    let alone = modes.contains(&"ReadWriteOncePod");
    let others = ACCESS_MODES[..3].iter().any(|mode| modes.contains(mode));
    if alone && others {
        faults.forbidden(&at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn class_name(spec: &Value, field: &str, at: &At<'_>, faults: &mut Faults) {
    let class = text(spec, field);
    if !class.is_empty() {
        faults.all_invalid(&at.field(field), class, names::dns1123_subdomain(class));
    }
}

fn one_of_modes(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    if let Some(mode) = spec
        .str_at(&["volumeMode"])
        .filter(|mode| !VOLUME_MODES.contains(mode))
    {
        faults.not_supported(&at.field("volumeMode"), mode, &VOLUME_MODES);
    }
}

fn data_sources(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let [source, reference] = ["dataSource", "dataSourceRef"].map(|field| {
        let source = present(spec, field)?;
        data_source(source, &at.field(field), faults);
        Some(source)
    });
    let (Some(source), Some(reference)) = (source, reference) else {
        return;
    };
    // Upstream shows a path where the value belongs.
    if text(reference, "namespace").is_empty() {
        let same = ["apiGroup", "kind", "name"]
            .iter()
            .all(|field| present(source, field) == present(reference, field));
        if !same {
            faults.invalid(at, &Value::object(), "must match dataSourceRef");
        }
    } else {
        let why = "may not be specified when dataSourceRef.namespace is specified";
        faults.invalid(at, &Value::object(), why);
    }
}

fn data_source(source: &Value, at: &At<'_>, faults: &mut Faults) {
    for field in ["name", "kind"] {
        if text(source, field).is_empty() {
            faults.required(&at.field(field), "");
        }
    }
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() {
        if kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            faults.invalid(at, kind, why);
        }
    } else {
        faults.all_invalid(&at.field("apiGroup"), group, names::dns1123_subdomain(group));
    }
    let namespace = text(source, "namespace");
    if !namespace.is_empty() {
        let problems = names::dns1123_label(namespace);
        faults.all_invalid(&at.field("namespace"), namespace, problems);
    }
}

pub(super) fn claim_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let [own, before] = [new, old].map(|claim| claim.get("spec").unwrap_or(&none));
    claim_spec(own, &SPEC, &mut faults);
    let (mut own_rest, mut old_rest) = (own.clone(), before.clone());
    if text(before, "volumeName").is_empty() {
        take(&mut old_rest, own, &["volumeName"]);
    }
    class_change(new, old, &mut own_rest, &mut faults);
    if new.str_at(&["status", "phase"]) == Some("Bound") {
        take(&mut own_rest, before, &["resources", "requests", "storage"]);
        take(&mut own_rest, before, &["volumeAttributesClassName"]);
    }
    if own_rest != old_rest {
        let diff = pod::unified_diff(&pod::pretty(&old_rest), &pod::pretty(&own_rest));
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        faults.forbidden(&SPEC, &format!("{why}\n{diff}"));
    }
    smaller(own, before, old, &mut faults);
    let modes = [own, before].map(|spec| spec.get("volumeMode"));
    faults.immutable(&At::root("volumeMode"), modes[0], modes[1]);
    let applied = old.str_at(&["status", "currentVolumeAttributesClassName"]);
    if applied.is_some() {
        let what = match own.str_at(&["volumeAttributesClassName"]) {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return faults.into_causes(),
        };
        let why =
            format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        faults.forbidden(&SPEC.field("volumeAttributesClassName"), &why);
    }
    faults.into_causes()
}

/// Puts the member of `from` into `into`, absence included.
fn take(into: &mut Value, from: &Value, path: &[&str]) {
    match from.at(path) {
        Some(value) => into.set_at(path, value.clone()),
        None => into.remove_at(path).is_some(),
    };
}

/// The class is fixed, but for one that moves from the old annotation into its field, or is set later.
fn class_change(new: &Value, old: &Value, own: &mut Value, faults: &mut Faults) {
    let noted = |claim: &Value| {
        claim
            .str_at(&["metadata", "annotations", BETA_CLASS])
            .map(str::to_owned)
    };
    let (now, before) = (noted(new), noted(old));
    let named = |claim: &Value| claim.str_at(&["spec", "storageClassName"]).map(str::to_owned);
    let (class, old_class) = (named(new), named(old));
    if old_class.is_some()
        || class.is_none()
        || before
            .as_ref()
            .is_some_and(|before| Some(before) != class.as_ref())
    {
        annotation_is_fixed(now.as_deref(), before.as_deref(), faults);
        return;
    }
    if before.is_none() || now.is_some() && now != before {
        annotation_is_fixed(now.as_deref(), before.as_deref(), faults);
    }
    own.remove_at(&["storageClassName"]);
}

fn annotation_is_fixed(now: Option<&str>, before: Option<&str>, faults: &mut Faults) {
    let now = now.unwrap_or_default();
    if now != before.unwrap_or_default() {
        let at = At::root("metadata");
        let at = at.field("annotations");
        faults.invalid(&at.key(BETA_CLASS), now, crate::check::IMMUTABLE);
    }
}

/// A request may shrink only as far as the volume has not grown yet.
fn smaller(new: &Value, old: &Value, claim: &Value, faults: &mut Faults) {
    let amount = |tree: &Value, path: &[&str]| -> Option<Quantity> { tree.str_at(path)?.parse().ok() };
    let request = ["resources", "requests", "storage"];
    let (Some(own), Some(before)) = (amount(new, &request), amount(old, &request)) else {
        return;
    };
    let zero = Quantity::from_value(0, own.format());
    let capacity = amount(claim, &["status", "capacity", "storage"]).unwrap_or(zero);
    if own < before && own <= capacity {
        let at = SPEC.field("resources");
        let at = at.field("requests");
        let why = "field can not be less than status.capacity";
        faults.forbidden(&at.field("storage"), why);
    }
}

pub(super) fn volume(volume: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    volume_spec(volume, &mut faults);
    faults.into_causes()
}

fn volume_spec(volume: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = volume.get("spec").unwrap_or(&none);
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        faults.required(&SPEC.field("accessModes"), "");
    }
    access_modes(modes, &SPEC, faults);
    capacity(spec, faults);
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    let at_policy = SPEC.field("persistentVolumeReclaimPolicy");
    if !policy.is_empty() && !policies.contains(&policy) {
        faults.not_supported(&at_policy, policy, &policies);
    }
    let affinity = present(spec, "nodeAffinity");
    if let Some(affinity) = affinity {
        let at = SPEC.field("nodeAffinity");
        match present(affinity, "required") {
            Some(selector) => pod::node_selector(selector, &at.field("required"), faults),
            None => faults.required(&at.field("required"), "must specify required node constraints"),
        }
    }
    sources(spec, affinity.is_some(), faults);
    let path = spec.str_at(&["hostPath", "path"]).unwrap_or_default();
    if !path.is_empty() && path.chars().all(|c| c == '/') && policy == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        faults.forbidden(&at_policy, why);
    }
    class_name(spec, "storageClassName", &SPEC, faults);
    one_of_modes(spec, &SPEC, faults);
    let Some(class) = spec.str_at(&["volumeAttributesClassName"]) else {
        return;
    };
    if class.is_empty() {
        let at = SPEC.field("volumeAttributesClassName");
        faults.required(&at, "an empty string is disallowed");
    } else {
        class_name(spec, "volumeAttributesClassName", &SPEC, faults);
    }
    if present(spec, "csi").is_none() {
        let why = "has to be specified when using volumeAttributesClassName";
        faults.required(&SPEC.field("csi"), why);
    }
}

fn capacity(spec: &Value, faults: &mut Faults) {
    let at = SPEC.field("capacity");
    let given: Vec<(&str, &Value)> = entries(spec, "capacity").collect();
    if given.is_empty() {
        faults.required(&at, "");
    }
    if given.len() != 1 || given[0].0 != "storage" {
        let shown = spec.get("capacity").unwrap_or(&Value::Null);
        faults.not_supported(&at, shown, &["storage"]);
    }
    for (resource, amount) in given {
        let amount = amount.as_str().unwrap_or_default();
        if !is_positive(amount) {
            faults.invalid(&at.key(resource), amount, "must be greater than zero");
        }
    }
}

fn sources(spec: &Value, placed: bool, faults: &mut Faults) {
    let mut seen = false;
    for kind in SOURCES {
        let Some(source) = present(spec, kind) else {
            continue;
        };
        let at = SPEC.field(kind);
        if seen {
            faults.forbidden(&at, "may not specify more than 1 volume type");
            continue;
        }
        seen = true;
        match kind {
            "local" => {
                local(source, &at, faults);
                if !placed {
                    let why = "Local volume requires node affinity";
                    faults.required(&SPEC.field("nodeAffinity"), why);
                }
            }
            "csi" => csi(source, &at, faults),
            other => pod::volume_source(other, source, &at, faults),
        }
    }
    if !seen {
        faults.required(&SPEC, "must specify a volume type");
    }
}

fn local(source: &Value, at: &At<'_>, faults: &mut Faults) {
    let (path, at) = (text(source, "path"), at.field("path"));
    if path.is_empty() {
        faults.required(&at, "");
    } else {
        pod::no_backsteps(path, &at, faults);
    }
}

fn csi(source: &Value, at: &At<'_>, faults: &mut Faults) {
    let driver = text(source, "driver");
    driver_name(driver, &at.field("driver"), faults);
    if text(source, "volumeHandle").is_empty() {
        faults.required(&at.field("volumeHandle"), "");
    }
    for secret in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let at = at.field(secret);
        let Some(secret) = present(source, secret) else {
            continue;
        };
        for field in ["name", "namespace"] {
            if text(secret, field).is_empty() {
                faults.required(&at.field(field), "");
            }
        }
    }
}

/// The name of a CSI driver.
pub(super) fn driver_name(driver: &str, at: &At<'_>, faults: &mut Faults) {
    const LONGEST: usize = 63;
    if driver.is_empty() {
        faults.required(at, "");
    }
    if driver.len() > LONGEST {
        faults.too_long(at, LONGEST);
    }
    let lower = driver.to_lowercase();
    faults.all_invalid(at, driver, names::dns1123_subdomain(&lower));
}

pub(super) fn volume_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    volume_spec(new, &mut faults);
    let none = Value::Null;
    let [own, before] = [new, old].map(|volume| volume.get("spec").unwrap_or(&none));
    let [mut source, old_source] = [own, before].map(|spec| {
        let mut source = Value::object();
        for kind in SOURCES {
            if let Some(value) = present(spec, kind) {
                source.set_at(&[kind], value.clone());
            }
        }
        source
    });
    // The one part that may be set later.
    let late = ["csi", "controllerExpandSecretRef"];
    if old_source.get("csi").is_some() && old_source.at(&late).is_none() {
        source.remove_at(&late);
    }
    if source != old_source {
        let diff = pod::unified_diff(&pod::pretty(&old_source), &pod::pretty(&source));
        let why = format!("spec.persistentvolumesource is immutable after creation\n{diff}");
        faults.forbidden(&SPEC.field("persistentvolumesource"), &why);
    }
    let modes = [own, before].map(|spec| spec.get("volumeMode"));
    faults.immutable(&At::root("volumeMode"), modes[0], modes[1]);
    if let (Some(affinity), now) = (present(before, "nodeAffinity"), own.get("nodeAffinity")) {
        faults.immutable(&At::root("nodeAffinity"), now, Some(affinity));
    }
    let class = |spec: &Value| spec.at(&["volumeAttributesClassName"]).is_some();
    if class(before) && !class(own) {
        let why = "update from non-nil value to nil is forbidden";
        faults.forbidden(&SPEC.field("volumeAttributesClassName"), why);
    }
    faults.into_causes()
}

pub(super) fn class(class: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let (at, provisioner) = (At::root("provisioner"), text(class, "provisioner"));
    if provisioner.is_empty() {
        faults.required(&at, "");
    } else {
        let lower = provisioner.to_lowercase();
        faults.all_invalid(&at, &*lower, names::qualified_name(&lower));
    }
    parameters(class, &mut faults);
    for (field, known) in [
        ("reclaimPolicy", ["Delete", "Retain"]),
        ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"]),
    ] {
        let value = text(class, field);
        if !value.is_empty() && !known.contains(&value) {
            faults.not_supported(&At::root(field), value, &known);
        }
    }
    faults.into_causes()
}

fn parameters(class: &Value, faults: &mut Faults) {
    let at = At::root("parameters");
    let (mut count, mut size) = (0, 0);
    for (key, value) in entries(class, "parameters") {
        count += 1;
        size += key.len() + value.as_str().unwrap_or_default().len();
        if key.is_empty() {
            faults.invalid(&at, key, "field can not be empty.");
        }
    }
    if count > MOST_PARAMETERS {
        faults.too_long(&at, MOST_PARAMETERS);
    } else if size > MOST_PARAMETER_BYTES {
        faults.too_long(&at, MOST_PARAMETER_BYTES);
    }
}

#[cfg(test)]
mod tests;
