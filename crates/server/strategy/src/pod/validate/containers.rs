//! Containers of all three sorts.

use cloudeck_machinery::{Value, names};

use super::{Context, env, mounts, probes, resources, security};
use crate::check::{At, Faults, list, number, present, text};

const ONLY_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";

/// The main containers.
pub(super) fn main(all: &[Value], context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    if all.is_empty() {
        faults.required(at, "");
        return;
    }
    for (i, container) in all.iter().enumerate() {
        let at = at.index(i);
        common(container, context, &at, faults);
        let name = text(container, "name");
        if all[..i].iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        probes::all(container, context, &at, faults);
        restart_rules(container, &at, faults);
    }
    host_port_conflicts(all, at, faults);
}

/// The init containers; `main` are the others.
pub(super) fn init(all: &[Value], main: &[Value], context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    for (i, container) in all.iter().enumerate() {
        let path = at.index(i);
        common(container, context, &path, faults);
        let policy = present(container, "restartPolicy");
        if policy.is_some() || !list(container, "restartPolicyRules").is_empty() {
            restart_rules(container, &path, faults);
        }
        let name = text(container, "name");
        let taken = |other: &Value| text(other, "name") == name;
        if main.iter().any(taken) || (!name.is_empty() && all[..i].iter().any(taken)) {
            faults.duplicate(&path.field("name"), name);
        }
        host_port_conflicts(std::slice::from_ref(container), at, faults);
        if policy.and_then(Value::as_str) == Some("Always") {
            probes::all(container, context, &path, faults);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if present(container, field).is_some() {
                faults.forbidden(&path.field(field), ONLY_SIDECARS);
            }
        }
        for (j, rule) in list(container, "resizePolicy").iter().enumerate() {
            if text(rule, "restartPolicy") == "RestartContainer" {
                let rules = path.field("resizePolicy");
                let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                faults.invalid(&rules.index(j).field("restartPolicy"), "RestartContainer", why);
            }
        }
    }
}

/// The containers added to a running pod.
pub(super) fn ephemeral(
    all: &[Value],
    others: [&[Value]; 2],
    context: &Context<'_>,
    at: &At<'_>,
    faults: &mut Faults,
) {
    const FORBIDDEN: [&str; 6] = [
        "ports",
        "resources",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    const WHY: &str = "cannot be set for an Ephemeral Container";
    for (i, container) in all.iter().enumerate() {
        let at = at.index(i);
        common(container, context, &at, faults);
        only_pods(container, &at, faults);
        let name = text(container, "name");
        let is = |wanted: &str| {
            others
                .iter()
                .any(|list| list.iter().any(|c| text(c, "name") == wanted))
        };
        if is(name) || all[..i].iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !is(target) {
            faults.not_found(&at.field("targetContainerName"), target, "");
        }
        for field in FORBIDDEN {
            if !crate::fill::is_empty(container.get(field)) {
                faults.forbidden(&at.field(field), WHY);
            }
        }
        for (j, mount) in list(container, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    let mounts = at.field("volumeMounts");
                    faults.forbidden(&mounts.index(j).field(field), WHY);
                }
            }
        }
    }
}

/// Rules that templates are not held to.
pub(super) fn only_pods(container: &Value, at: &At<'_>, faults: &mut Faults) {
    let image = text(container, "image");
    if image.len() != image.trim().len() {
        let why = "must not have leading or trailing whitespace";
        faults.invalid(&at.field("image"), image, why);
    }
}

fn common(container: &Value, context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    let name = text(container, "name");
    if name.is_empty() {
        faults.required(&at.field("name"), "");
    } else {
        faults.all_invalid(&at.field("name"), name, names::dns1123_label(name));
    }
    if text(container, "image").is_empty() {
        faults.required(&at.field("image"), "");
    }
    let policy = text(container, "terminationMessagePolicy");
    faults.one_of(
        &at.field("terminationMessagePolicy"),
        policy,
        &["File", "FallbackToLogsOnError"],
    );
    ports(list(container, "ports"), &at.field("ports"), faults);
    env::variables(list(container, "env"), &at.field("env"), faults);
    env::sources(list(container, "envFrom"), &at.field("envFrom"), faults);
    mounts::mounts(container, context, &at.field("volumeMounts"), faults);
    mounts::devices(container, context, &at.field("volumeDevices"), faults);
    pull_policy(container, "imagePullPolicy", at, faults);
    if let Some(own) = present(container, "resources") {
        resources::container(own, &context.claims, &at.field("resources"), faults);
    }
    resize_policy(
        container,
        context.restart_policy,
        &at.field("resizePolicy"),
        faults,
    );
    if let Some(own) = present(container, "securityContext") {
        security::container(own, context.host_users, &at.field("securityContext"), faults);
    }
}

pub(super) fn pull_policy(object: &Value, key: &str, at: &At<'_>, faults: &mut Faults) {
    let supported = ["Always", "IfNotPresent", "Never"];
    faults.one_of(&at.field(key), text(object, key), &supported);
}

fn ports(all: &[Value], at: &At<'_>, faults: &mut Faults) {
    for (i, port) in all.iter().enumerate() {
        let at = at.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let problems = names::port_name(name);
            let sound = problems.is_empty();
            faults.all_invalid(&at.field("name"), name, problems);
            if sound && all[..i].iter().any(|other| text(other, "name") == name) {
                faults.duplicate(&at.field("name"), name);
            }
        }
        match number(port, "containerPort") {
            0 => faults.required(&at.field("containerPort"), ""),
            own => faults.all_invalid(&at.field("containerPort"), &own, names::port_number(own)),
        }
        let host = number(port, "hostPort");
        if host != 0 {
            faults.all_invalid(&at.field("hostPort"), &host, names::port_number(host));
        }
        let supported = ["SCTP", "TCP", "UDP"];
        faults.one_of(&at.field("protocol"), text(port, "protocol"), &supported);
    }
}

fn host_port_conflicts(all: &[Value], at: &At<'_>, faults: &mut Faults) {
    let mut taken: Vec<String> = Vec::new();
    for (i, container) in all.iter().enumerate() {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let host = number(port, "hostPort");
            if host == 0 {
                continue;
            }
            let mark = format!("{}/{}/{host}", text(port, "protocol"), text(port, "hostIP"));
            if taken.contains(&mark) {
                let container = at.index(i);
                let ports = container.field("ports");
                faults.duplicate(&ports.index(j).field("hostPort"), mark.as_str());
            } else {
                taken.push(mark);
            }
        }
    }
}

fn resize_policy(container: &Value, pod_policy: &str, at: &At<'_>, faults: &mut Faults) {
    let all = list(container, "resizePolicy");
    for (i, rule) in all.iter().enumerate() {
        let resource = text(rule, "resourceName");
        if all[..i]
            .iter()
            .any(|other| text(other, "resourceName") == resource)
        {
            faults.duplicate(&at.index(i), resource);
        }
        faults.one_of(at, resource, &["cpu", "memory"]);
        let policy = text(rule, "restartPolicy");
        faults.one_of(at, policy, &["NotRequired", "RestartContainer"]);
        if pod_policy == "Never" && policy != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            faults.invalid(at, policy, why);
        }
    }
}

fn restart_rules(container: &Value, at: &At<'_>, faults: &mut Faults) {
    let rules = list(container, "restartPolicyRules");
    let path = at.field("restartPolicy");
    match present(container, "restartPolicy").and_then(Value::as_str) {
        None if rules.is_empty() => return,
        None => faults.required(&path, "must specify restartPolicy when restart rules are used"),
        Some("Always" | "Never" | "OnFailure") => {}
        Some(other) => faults.not_supported(&path, other, &["Always", "Never", "OnFailure"]),
    }
    let path = at.field("restartPolicyRules");
    if rules.len() > 20 {
        faults.too_many(&path, rules.len(), 20);
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = path.index(i);
        let action = text(rule, "action");
        if !matches!(action, "Restart" | "RestartAllContainers") {
            faults.not_supported(
                &path.field("action"),
                action,
                &["Restart", "RestartAllContainers"],
            );
        }
        let path = path.field("exitCodes");
        let Some(codes) = present(rule, "exitCodes") else {
            faults.required(&path, "must be specified");
            continue;
        };
        let operator = text(codes, "operator");
        if !matches!(operator, "In" | "NotIn") {
            faults.not_supported(&path.field("operator"), operator, &["In", "NotIn"]);
        }
        let count = list(codes, "values").len();
        if count > 255 {
            faults.too_many(&path.field("values"), count, 255);
        }
    }
}
