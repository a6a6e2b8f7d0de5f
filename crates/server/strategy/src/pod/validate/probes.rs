//! Probes, hooks and what they do.

use cloudeck_machinery::{Value, names};

use super::Context;
use crate::check::{At, Faults, list, number, present, text};

/// The hooks and probes of a container.
pub(super) fn all(container: &Value, context: &Context<'_>, at: &At<'_>, faults: &mut Faults) {
    if let Some(lifecycle) = present(container, "lifecycle") {
        let at = at.field("lifecycle");
        for hook in ["postStart", "preStop"] {
            if let Some(hook_value) = present(lifecycle, hook) {
                handler(hook_value, context.grace, &at.field(hook), faults);
            }
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(own) = present(container, name) {
            probe(own, name, context.grace, &at.field(name), faults);
        }
    }
}

fn probe(probe: &Value, name: &str, grace: Option<i64>, at: &At<'_>, faults: &mut Faults) {
    handler(probe, grace, at, faults);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        faults.not_negative(&at.field(field), number(probe, field));
    }
    let own_grace = probe.int_at(&["terminationGracePeriodSeconds"]);
    let path = at.field("terminationGracePeriodSeconds");
    if let Some(grace) = own_grace.filter(|grace| *grace <= 0) {
        faults.invalid(&path, &grace, "must be greater than 0");
    }
    if name == "readinessProbe" {
        if let Some(grace) = own_grace {
            faults.invalid(&path, &grace, "must not be set for readinessProbes");
        }
    } else {
        let threshold = number(probe, "successThreshold");
        if threshold != 1 {
            faults.invalid(&at.field("successThreshold"), &threshold, "must be 1");
        }
    }
}

fn handler(own: &Value, grace: Option<i64>, at: &At<'_>, faults: &mut Faults) {
    let mut seen = false;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = present(own, kind) else {
            continue;
        };
        let at = at.field(kind);
        if seen {
            faults.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        seen = true;
        match kind {
            "exec" if list(action, "command").is_empty() => faults.required(&at.field("command"), ""),
            "httpGet" => http_get(action, &at, faults),
            "tcpSocket" => port(action.get("port"), &at.field("port"), faults),
            "grpc" => {
                let number = number(action, "port");
                faults.all_invalid(&at.field("port"), &number, names::port_number(number));
            }
            "sleep" => sleep(action, grace, &at, faults),
            _ => {}
        }
    }
    if !seen {
        faults.required(at, "must specify a handler type");
    }
}

fn sleep(action: &Value, grace: Option<i64>, at: &At<'_>, faults: &mut Faults) {
    let seconds = number(action, "seconds");
    if let Some(grace) = grace
        && !(0..=grace).contains(&seconds)
    {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        faults.invalid(at, &seconds, &why);
    }
}

fn http_get(action: &Value, at: &At<'_>, faults: &mut Faults) {
    if text(action, "path").is_empty() {
        faults.required(&at.field("path"), "");
    }
    port(action.get("port"), &at.field("port"), faults);
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        faults.not_supported(&at.field("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(action, "httpHeaders") {
        let name = text(header, "name");
        faults.all_invalid(&at.field("httpHeaders"), name, names::http_header_name(name));
    }
}

/// A port by number or by name.
pub(crate) fn port(port: Option<&Value>, at: &At<'_>, faults: &mut Faults) {
    match port {
        Some(Value::String(name)) => faults.all_invalid(at, name.as_str(), names::port_name(name)),
        other => {
            let number = other.and_then(Value::as_int).unwrap_or(0);
            faults.all_invalid(at, &number, names::port_number(number));
        }
    }
}
