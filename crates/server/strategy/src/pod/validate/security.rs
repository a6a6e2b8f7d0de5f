//! Security contexts of pods and containers.

use cloudeck_machinery::{Value, names};

use super::volumes::local_path;
use crate::check::{At, Faults, flag, list, present, text};

/// A container's.
pub(super) fn container(own: &Value, host_users: bool, at: &At<'_>, faults: &mut Faults) {
    ids(own, &["runAsUser", "runAsGroup"], at, faults);
    if let Some(mount) = present(own, "procMount").and_then(Value::as_str) {
        let at = at.field("procMount");
        if !matches!(mount, "Default" | "Unmasked") {
            faults.not_supported(&at, mount, &["Default", "Unmasked"]);
        }
        if host_users && mount == "Unmasked" {
            faults.invalid(&at, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(own.get("seccompProfile"), &at.field("seccompProfile"), faults);
    if own.bool_at(&["allowPrivilegeEscalation"]) == Some(false) {
        if flag(own, "privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            faults.invalid(at, own, why);
        }
        let added = own.items_at(&["capabilities", "add"]);
        if added.iter().any(|name| name.as_str() == Some("CAP_SYS_ADMIN")) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            faults.invalid(at, own, why);
        }
    }
    app_armor(own.get("appArmorProfile"), &at.field("appArmorProfile"), faults);
}

/// A pod's.
pub(super) fn pod(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let Some(own) = present(spec, "securityContext") else {
        return;
    };
    ids(own, &["fsGroup", "runAsUser", "runAsGroup"], at, faults);
    for (i, group) in list(own, "supplementalGroups").iter().enumerate() {
        let id = group.as_int().unwrap_or(0);
        let groups = at.field("supplementalGroups");
        faults.all_invalid(&groups.index(i), &id, names::unix_id(id));
    }
    sysctls(own, spec, &at.field("sysctls"), faults);
    let mut choice = |field: &str, supported: &[&str]| {
        if let Some(value) = present(own, field).and_then(Value::as_str)
            && !supported.contains(&value)
        {
            faults.not_supported(&at.field(field), value, supported);
        }
    };
    choice("fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
    choice("supplementalGroupsPolicy", &["Merge", "Strict"]);
    choice("seLinuxChangePolicy", &["MountOption", "Recursive"]);
    seccomp(own.get("seccompProfile"), &at.field("seccompProfile"), faults);
    app_armor(own.get("appArmorProfile"), &at.field("appArmorProfile"), faults);
}

fn ids(own: &Value, fields: &[&str], at: &At<'_>, faults: &mut Faults) {
    for field in fields {
        if let Some(id) = own.int_at(&[field]) {
            faults.all_invalid(&at.field(field), &id, names::unix_id(id));
        }
    }
}

fn seccomp(profile: Option<&Value>, at: &At<'_>, faults: &mut Faults) {
    let Some(profile) = profile.filter(|profile| !profile.is_null()) else {
        return;
    };
    let kind = text(profile, "type");
    match kind {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => faults.required(&at.field("type"), "type is required when seccompProfile is set"),
        other => {
            let supported = ["Localhost", "RuntimeDefault", "Unconfined"];
            faults.not_supported(&at.field("type"), other, &supported);
        }
    }
    let path = at.field("localhostProfile");
    match (kind, present(profile, "localhostProfile").and_then(Value::as_str)) {
        ("Localhost", None) => faults.required(&path, "must be set when seccomp type is Localhost"),
        ("Localhost", Some(file)) => local_path(file, &path, faults),
        (_, Some(_)) => faults.invalid(&path, profile, "can only be set when seccomp type is Localhost"),
        (_, None) => {}
    }
}

fn app_armor(profile: Option<&Value>, at: &At<'_>, faults: &mut Faults) {
    let Some(profile) = profile.filter(|profile| !profile.is_null()) else {
        return;
    };
    let file = present(profile, "localhostProfile").and_then(Value::as_str);
    let path = at.field("localhostProfile");
    match (text(profile, "type"), file) {
        ("Localhost", None | Some("")) => {
            faults.required(&path, "must be set when AppArmor type is Localhost");
        }
        ("Localhost", Some(file)) => {
            if file.trim() != file {
                faults.invalid(&path, file, "must not be padded with whitespace");
            }
            if file.len() > 4095 {
                faults.too_long(&path, 4095);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(file)) => {
            faults.invalid(&path, file, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => faults.required(&at.field("type"), "type is required when appArmorProfile is set"),
        (other, _) => {
            let supported = ["Localhost", "RuntimeDefault", "Unconfined"];
            faults.not_supported(&at.field("type"), other, &supported);
        }
    }
}

fn sysctls(own: &Value, spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let all = list(own, "sysctls");
    for (i, sysctl) in all.iter().enumerate() {
        let at = at.index(i);
        let at = at.field("name");
        let name = text(sysctl, "name");
        if name.is_empty() {
            faults.required(&at, "");
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            faults.invalid(&at, name, why);
        } else if all[..i].iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&at, name);
        }
        if flag(spec, "hostNetwork") && name.starts_with("net.") {
            faults.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if flag(spec, "hostIPC") && is_ipc_sysctl(name) {
            faults.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_ipc_sysctl(name: &str) -> bool {
    name == "kernel.sem"
        || ["kernel.shm", "kernel.msg", "fs.mqueue."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn is_sysctl(name: &str) -> bool {
    let is_end = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|segment| {
            let bytes = segment.as_bytes();
            matches!((bytes.first(), bytes.last()), (Some(a), Some(z)) if is_end(*a) && is_end(*z))
                && bytes.iter().all(|b| is_end(*b) || matches!(b, b'-' | b'_'))
        })
}
