//! The pod specification as a whole.

use cloudeck_machinery::{Value, names};

use super::{Context, containers, env, resources, scheduling, security, volumes};
use crate::check::{At, Faults, entries, flag, list, number, present, text};

/// Errors of a pod specification; `pod` is the pod's name, `None` for a template.
pub(crate) fn spec(spec: &Value, at: &At<'_>, pod: Option<&str>, faults: &mut Faults) {
    let grace = spec.int_at(&["terminationGracePeriodSeconds"]);
    if grace.is_none() {
        faults.required(&at.field("terminationGracePeriodSeconds"), "");
    }
    let sound = volumes::all(list(spec, "volumes"), pod, &at.field("volumes"), faults);
    let claims = list(spec, "resourceClaims");
    let context = Context {
        volumes: sound,
        claims: claims.iter().map(|claim| text(claim, "name")).collect(),
        grace,
        restart_policy: text(spec, "restartPolicy"),
        host_users: spec.bool_at(&["hostUsers"]) != Some(false),
        is_pod: pod.is_some(),
    };
    resource_claims(claims, &at.field("resourceClaims"), faults);
    all_containers(spec, &context, at, faults);
    if let Some(own) = present(spec, "resources") {
        resources::pod(own, &at.field("resources"), faults);
    }
    host_network(spec, &context, at, faults);
    faults.one_of(
        &at.field("restartPolicy"),
        context.restart_policy,
        &["Always", "OnFailure", "Never"],
    );
    faults.one_of(
        &at.field("dnsPolicy"),
        text(spec, "dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    faults.labels(&at.field("nodeSelector"), spec.get("nodeSelector"));
    security::pod(spec, &at.field("securityContext"), faults);
    if flag(spec, "shareProcessNamespace") && flag(spec, "hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        faults.invalid(&at.field("shareProcessNamespace"), &Value::Bool(true), why);
    }
    scheduling::affinity(spec, &at.field("affinity"), faults);
    dns(spec, &at.field("dnsConfig"), faults);
    gates(spec, at, faults);
    let spreading = list(spec, "topologySpreadConstraints");
    scheduling::spreading(spreading, &at.field("topologySpreadConstraints"), faults);
    host_users(spec, &context, at, faults);
    host_name(spec, at, faults);
    plain_names(spec, at, faults);
    scheduling::tolerations(list(spec, "tolerations"), &at.field("tolerations"), faults);
    rest(spec, at, faults);
}

fn all_containers(spec: &Value, context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    let (main, init) = (list(spec, "containers"), list(spec, "initContainers"));
    containers::main(main, context, &at.field("containers"), faults);
    containers::init(init, main, context, &at.field("initContainers"), faults);
    let ephemeral = list(spec, "ephemeralContainers");
    let path = at.field("ephemeralContainers");
    containers::ephemeral(ephemeral, [main, init], context, &path, faults);
}

fn resource_claims(all: &[Value], at: &At<'_>, faults: &mut Faults) {
    for (i, claim) in all.iter().enumerate() {
        let at = at.index(i);
        let name = text(claim, "name");
        if name.is_empty() {
            faults.required(&at.field("name"), "");
        } else if all[..i].iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        } else {
            faults.all_invalid(&at.field("name"), name, names::dns1123_label(name));
        }
        let fields = ["resourceClaimName", "resourceClaimTemplateName"];
        match fields.map(|field| present(claim, field).is_some()) {
            [true, true] => {
                let why =
                    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                faults.invalid(&at, claim, why);
            }
            [false, false] => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                faults.invalid(&at, claim, why);
            }
            _ => {}
        }
        for field in fields {
            if let Some(name) = present(claim, field).and_then(Value::as_str) {
                faults.all_invalid(&at.field(field), name, names::dns1123_subdomain(name));
            }
        }
    }
}

fn host_network(spec: &Value, context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    let at = at.field("containers");
    for (i, container) in list(spec, "containers").iter().enumerate() {
        for (j, port) in list(container, "ports").iter().enumerate() {
            let (host, own) = (number(port, "hostPort"), number(port, "containerPort"));
            if (context.is_pod || host != 0) && host != own {
                let container = at.index(i);
                let ports = container.field("ports");
                let why = "must match `containerPort` when `hostNetwork` is true";
                faults.invalid(&ports.index(j).field("hostPort"), &host, why);
            }
        }
    }
}

fn dns(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let config = present(spec, "dnsConfig");
    let servers = config
        .map(|config| list(config, "nameservers"))
        .unwrap_or_default();
    if text(spec, "dnsPolicy") == "None" {
        if config.is_none() {
            return faults.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return faults.required(&at.field("nameservers"), why);
        }
    }
    let Some(config) = config else { return };
    if servers.len() > 3 {
        let all = Value::from(servers.to_vec());
        faults.invalid(
            &at.field("nameservers"),
            &all,
            "must not have more than 3 nameservers",
        );
    }
    for (i, server) in servers.iter().filter_map(Value::as_str).enumerate() {
        let path = at.field("nameservers");
        faults.all_invalid(&path.index(i), server, names::ip_legacy(server));
    }
    let searches: Vec<&str> = list(config, "searches")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let (path, all) = (at.field("searches"), config.get("searches"));
    if searches.len() > 32 {
        faults.invalid(
            &path,
            all.unwrap_or(&Value::Null),
            "must not have more than 32 search paths",
        );
    }
    if searches.iter().map(|search| search.len() + 1).sum::<usize>() > 2049 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        faults.invalid(&path, all.unwrap_or(&Value::Null), why);
    }
    for (i, search) in searches.iter().enumerate().filter(|(_, search)| **search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let problems = names::dns1123_subdomain_with_underscore(search);
        faults.all_invalid(&path.index(i), search, problems);
    }
    for (i, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            faults.required(&at.field("options").index(i), "must not be empty");
        }
    }
}

fn gates(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    for (i, gate) in list(spec, "readinessGates").iter().enumerate() {
        let name = text(gate, "conditionType");
        let path = at.field("readinessGates");
        let path = path.index(i);
        faults.all_invalid(&path.field("conditionType"), name, names::qualified_name(name));
    }
    let all = list(spec, "schedulingGates");
    for (i, gate) in all.iter().enumerate() {
        let name = text(gate, "name");
        let path = at.field("schedulingGates");
        faults.all_invalid(&path.index(i), name, names::qualified_name(name));
        if all[..i].iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&path.index(i), name);
        }
    }
}

fn host_users(spec: &Value, context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    const WHY: &str = "when `hostUsers` is false";
    if context.host_users {
        return;
    }
    for (field, shown) in [
        ("hostNetwork", "hostNetwork"),
        ("hostPID", "HostPID"),
        ("hostIPC", "HostIPC"),
    ] {
        if flag(spec, field) {
            faults.forbidden(&at.field(shown), WHY);
        }
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in list(spec, key).iter().enumerate() {
            if !list(container, "volumeDevices").is_empty() {
                let containers = at.field(key);
                faults.forbidden(&containers.index(i).field("volumeDevices"), WHY);
            }
        }
    }
}

fn host_name(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let Some(name) = present(spec, "hostnameOverride").and_then(Value::as_str) else {
        return;
    };
    let at = at.field("hostnameOverride");
    if flag(spec, "setHostnameAsFQDN") {
        faults.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if flag(spec, "hostNetwork") {
        faults.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        faults.too_long(&at, 64);
    }
    faults.all_invalid(&at, name, names::dns1123_subdomain(name));
}

/// Names that must only look right.
fn plain_names(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let account = text(spec, "serviceAccountName");
    if !account.is_empty() {
        let problems = names::dns1123_subdomain(account);
        faults.all_invalid(&at.field("serviceAccountName"), account, problems);
    }
    let alias = text(spec, "serviceAccount");
    if alias != account {
        let why = format!("must be the same as serviceAccountName: {account:?}");
        faults.invalid(&at.field("deprecatedServiceAccount"), alias, &why);
    }
    let node = text(spec, "nodeName");
    if !node.is_empty() {
        faults.all_invalid(&at.field("nodeName"), node, names::dns1123_subdomain(node));
    }
    if let Some(seconds) = spec.int_at(&["activeDeadlineSeconds"]) {
        let problems = names::in_range(seconds, 1, i32::MAX.into());
        faults.all_invalid(&at.field("activeDeadlineSeconds"), &seconds, problems);
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, field);
        if !name.is_empty() {
            faults.all_invalid(&at.field(field), name, names::dns1123_label(name));
        }
    }
}

fn rest(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let at = at.field("hostAliases");
        let at = at.index(i);
        let ip = text(alias, "ip");
        faults.all_invalid(&at.field("ip"), ip, names::ip_legacy(ip));
        for (j, name) in list(alias, "hostnames")
            .iter()
            .filter_map(Value::as_str)
            .enumerate()
        {
            let at = at.field("hostnames");
            faults.all_invalid(&at.index(j), name, names::dns1123_subdomain(name));
        }
    }
    let priority = text(spec, "priorityClassName");
    if !priority.is_empty() {
        let problems = names::dns1123_subdomain(priority);
        faults.all_invalid(&at.field("priorityClassName"), priority, problems);
    }
    if let Some(class) = present(spec, "runtimeClassName").and_then(Value::as_str) {
        let problems = names::dns1123_subdomain(class);
        faults.all_invalid(&at.field("runtimeClassName"), class, problems);
    }
    if let Some(policy) = present(spec, "preemptionPolicy").and_then(Value::as_str) {
        let supported = ["PreemptLowerPriority", "Never"];
        faults.one_of(&at.field("preemptionPolicy"), policy, &supported);
    }
    if entries(spec, "overhead").next().is_some() {
        resources::overhead(spec, &at.field("overhead"), faults);
    }
    if let Some(system) = present(spec, "os") {
        match text(system, "name") {
            "" => faults.required(&at.field("os").field("name"), ""),
            "linux" | "windows" => {}
            other => faults.not_supported(&at.field("os"), other, &["linux", "windows"]),
        }
    }
    env::file_volumes(spec, at, faults);
}
