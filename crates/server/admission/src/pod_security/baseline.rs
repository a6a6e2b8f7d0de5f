//! The checks of the standard "baseline".

use std::collections::BTreeSet;

use cloudeck_kinds::sysctl;
use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{Map, Value};

use super::checks::{Pod, Violation, bad_setters, containers, join_quoted, listed, name_of, plural};

const ALLOWED_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut bad_values = BTreeSet::new();
    let by_fields = bad_setters(pod, &["appArmorProfile"], |profile| {
        let kind = profile.str_at(&["type"]).unwrap_or_default();
        let bad = !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            bad_values.insert(kind.to_owned());
        }
        bad
    });
    let annotations = pod
        .annotations
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter);
    let forbidden: Vec<String> = annotations
        .filter(|(key, _)| key.starts_with(ANNOTATION))
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
        .filter(|(_, value)| {
            !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/"))
        })
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    let by_annotations =
        (!forbidden.is_empty()).then(|| plural("annotation", "annotations", forbidden.len()).to_owned());
    let who: Vec<String> = by_fields.into_iter().chain(by_annotations).collect();
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = bad_values.into_iter().chain(forbidden).collect();
    Some(Violation::new(
        plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        ),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            join_quoted(&values)
        ),
    ))
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let mut forbidden = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let added = container
            .items_at(&["securityContext", "capabilities", "add"])
            .iter()
            .filter_map(Value::as_str);
        let found: Vec<&str> = added
            .filter(|name| !ALLOWED_CAPABILITIES.contains(name))
            .collect();
        forbidden.extend(found.iter().map(|name| (*name).to_owned()));
        !found.is_empty()
    });
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&bad),
            listed(&forbidden)
        );
        Violation::new("non-default capabilities", detail)
    })
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec.bool_at(&[field]) == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    (!used.is_empty()).then(|| Violation::new("host namespaces", used.join(", ")))
}

pub(super) fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let volumes = pod.spec.items_at(&["volumes"]).iter();
    let bad: Vec<String> = volumes
        .filter(|volume| volume.get("hostPath").is_some_and(|path| !path.is_null()))
        .map(name_of)
        .collect();
    (!bad.is_empty()).then(|| {
        let detail = format!("{} {}", plural("volume", "volumes", bad.len()), join_quoted(&bad));
        Violation::new("hostPath volumes", detail)
    })
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    // Sorted as text, as upstream's.
    let mut forbidden = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let ports = container.items_at(&["ports"]).iter();
        let found: Vec<i64> = ports
            .filter_map(|port| port.int_at(&["hostPort"]))
            .filter(|port| *port != 0)
            .collect();
        forbidden.extend(found.iter().map(ToString::to_string));
        !found.is_empty()
    });
    (!bad.is_empty()).then(|| {
        let ports: Vec<String> = forbidden.into_iter().collect();
        let detail = format!(
            "{} {} {} {}",
            containers(&bad),
            plural("uses", "use", bad.len()),
            plural("hostPort", "hostPorts", ports.len()),
            ports.join(", ")
        );
        Violation::new("hostPort", detail)
    })
}

pub(super) fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let handlers = HANDLERS.iter().filter_map(|path| container.at(path));
        let actions = handlers
            .flat_map(|handler| ["httpGet", "tcpSocket"].map(|action| handler.str_at(&[action, "host"])));
        let found: Vec<String> = actions
            .flatten()
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect();
        hosts.extend(found.iter().cloned());
        !found.is_empty()
    });
    let bad: Vec<String> = BTreeSet::from_iter(bad).into_iter().collect();
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {}",
            containers(&bad),
            plural("uses", "use", bad.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
            listed(&hosts)
        );
        Violation::new("probe or lifecycle host", detail)
    })
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad =
        pod.containers_where(|container| container.bool_at(&["securityContext", "privileged"]) == Some(true));
    (!bad.is_empty()).then(|| {
        Violation::new(
            "privileged",
            format!(
                "{} must not set securityContext.privileged=true",
                containers(&bad)
            ),
        )
    })
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut forbidden = BTreeSet::new();
    let bad = pod.containers_where(|container| {
        let mount = container
            .str_at(&["securityContext", "procMount"])
            .filter(|mount| *mount != "Default");
        forbidden.extend(mount.map(str::to_owned));
        mount.is_some()
    });
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} must not set securityContext.procMount to {}",
            containers(&bad),
            listed(&forbidden)
        );
        Violation::new("procMount", detail)
    })
}

pub(super) fn proc_mount_unless_user_namespace(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() {
        None
    } else {
        proc_mount(pod)
    }
}

pub(super) fn se_linux_1_0(pod: &Pod<'_>) -> Option<Violation> {
    se_linux(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn se_linux_1_31(pod: &Pod<'_>) -> Option<Violation> {
    se_linux(
        pod,
        &[
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ],
    )
}

fn se_linux(pod: &Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let who = bad_setters(pod, &["seLinuxOptions"], |options| {
        let text = |field| options.str_at(&[field]).unwrap_or_default();
        let bad_type = !allowed.contains(&text("type"));
        if bad_type {
            types.insert(text("type").to_owned());
        }
        user |= !text("user").is_empty();
        role |= !text("role").is_empty();
        bad_type || !text("user").is_empty() || !text("role").is_empty()
    })?;
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!(
            "{} {}",
            plural("type", "types", types.len()),
            listed(&types)
        ));
    }
    data.extend(user.then(|| "user may not be set".to_owned()));
    data.extend(role.then(|| "role may not be set".to_owned()));
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        data.join("; ")
    );
    Some(Violation::new("seLinuxOptions", detail))
}

pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let of_pod = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned());
    let of_containers = pod
        .containers
        .iter()
        .map(|c| format!("container.seccomp.security.alpha.kubernetes.io/{}", name_of(c)));
    let forbidden: BTreeSet<String> = of_pod
        .chain(of_containers)
        .filter_map(|key| {
            let value = pod.annotations?.str_at(&[&key])?;
            let good =
                value == "runtime/default" || value == "docker/default" || value.starts_with("localhost/");
            (!good).then(|| format!("{key}={}", quote(value)))
        })
        .collect();
    (!forbidden.is_empty()).then(|| {
        let word = plural("annotation", "annotations", forbidden.len());
        let list: Vec<String> = forbidden.into_iter().collect();
        Violation::new("seccompProfile", format!("forbidden {word} {}", list.join(", ")))
    })
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let who = bad_setters(pod, &["seccompProfile"], |profile| {
        let kind = profile.str_at(&["type"]).unwrap_or_default();
        let bad = !matches!(kind, "Localhost" | "RuntimeDefault");
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    })?;
    let detail = format!(
        "{who} must not set securityContext.seccompProfile.type to {}",
        listed(&values)
    );
    Some(Violation::new("seccompProfile", detail))
}

// How many of the safe ones an edition knows.

pub(super) fn sysctls_1_0(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, 5)
}

pub(super) fn sysctls_1_27(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, 6)
}

pub(super) fn sysctls_1_29(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, 10)
}

pub(super) fn sysctls_1_32(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, 12)
}

pub(super) fn sysctls_1_37(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, 14)
}

fn sysctls(pod: &Pod<'_>, allowed: usize) -> Option<Violation> {
    let allowed = &sysctl::SAFE[..allowed];
    let names = pod
        .spec
        .items_at(&["securityContext", "sysctls"])
        .iter()
        .map(name_of);
    let bad: Vec<String> = names.filter(|name| !allowed.contains(&name.as_str())).collect();
    (!bad.is_empty()).then(|| Violation::new("forbidden sysctls", bad.join(", ")))
}

pub(super) fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let who = bad_setters(pod, &["windowsOptions", "hostProcess"], |value| {
        value.as_bool() == Some(true)
    })?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation::new("hostProcess", detail))
}
