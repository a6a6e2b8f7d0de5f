//! Where containers mount the volumes of their pod.

use cloudeck_machinery::Value;

use super::Context;
use super::volumes::local_path;
use crate::check::{At, Faults, flag, list, present, text};

pub(super) fn mounts(container: &Value, context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    let (all, devices) = (list(container, "volumeMounts"), list(container, "volumeDevices"));
    for (i, mount) in all.iter().enumerate() {
        let path = at.index(i);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            faults.required(&path.field("name"), "");
        }
        if !context.volumes.iter().any(|(volume, _)| *volume == name) {
            faults.not_found(&path.field("name"), name, "");
        }
        if target.is_empty() {
            faults.required(&path.field("mountPath"), "");
        }
        if all[..i].iter().any(|other| text(other, "mountPath") == target) {
            faults.invalid(&path.field("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|device| text(device, "name") == name) {
            faults.invalid(
                &path.field("name"),
                name,
                "must not already exist in volumeDevices",
            );
        }
        if devices.iter().any(|device| text(device, "devicePath") == target) {
            let why = "must not already exist as a path in volumeDevices";
            faults.invalid(&path.field("mountPath"), target, why);
        }
        sub_paths(mount, at, &path, faults);
        propagation(mount, container, at, faults);
    }
}

/// Upstream leaves the index out of most of these paths.
fn sub_paths(mount: &Value, all: &At<'_>, at: &At<'_>, faults: &mut Faults) {
    let (plain, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
    if !plain.is_empty() {
        local_path(plain, &all.field("subPath"), faults);
    }
    if !expression.is_empty() {
        if !plain.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            faults.invalid(&at.field("subPathExpr"), expression, why);
        }
        local_path(expression, &all.field("subPathExpr"), faults);
    }
}

fn propagation(mount: &Value, container: &Value, at: &At<'_>, faults: &mut Faults) {
    let own = present(mount, "mountPropagation").and_then(Value::as_str);
    if let Some(own) = own {
        let at = at.field("mountPropagation");
        let supported = ["Bidirectional", "HostToContainer", "None"];
        if !supported.contains(&own) {
            faults.not_supported(&at, own, &supported);
        }
        let privileged = container.bool_at(&["securityContext", "privileged"]) == Some(true);
        if own == "Bidirectional" && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            faults.forbidden(&at, why);
        }
    }
    let at = at.field("recursiveReadOnly");
    match present(mount, "recursiveReadOnly").and_then(Value::as_str) {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !flag(mount, "readOnly") {
                faults.forbidden(&at, "may only be specified when readOnly is true");
            }
            if own.is_some_and(|own| own != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                faults.forbidden(&at, why);
            }
        }
        Some(other) => faults.not_supported(&at, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub(super) fn devices(container: &Value, context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    let (all, mounts) = (list(container, "volumeDevices"), list(container, "volumeMounts"));
    for (i, device) in all.iter().enumerate() {
        let at = at.index(i);
        let (name_at, path_at) = (at.field("name"), at.field("devicePath"));
        let (name, path) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            faults.required(&name_at, "");
        } else if all[..i].iter().any(|other| text(other, "name") == name) {
            faults.invalid(&name_at, name, "must be unique");
        }
        match context.volumes.iter().find(|(volume, _)| *volume == name) {
            None => faults.not_found(&name_at, name, ""),
            Some((_, volume))
                if present(volume, "persistentVolumeClaim").is_none()
                    && present(volume, "ephemeral").is_none() =>
            {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                faults.invalid(&name_at, name, why);
            }
            Some(_) => {}
        }
        if path.is_empty() {
            faults.required(&path_at, "");
        }
        if all[..i].iter().any(|other| text(other, "devicePath") == path) {
            faults.invalid(&path_at, path, "must be unique");
        }
        if path.split('/').any(|part| part == "..") {
            faults.invalid(&path_at, path, "can not contain backsteps ('..')");
        }
        if mounts.iter().any(|mount| text(mount, "name") == name) {
            faults.invalid(&name_at, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| text(mount, "mountPath") == path) {
            let why = "must not already exist as a path in volumeMounts";
            faults.invalid(&path_at, path, why);
        }
    }
}
