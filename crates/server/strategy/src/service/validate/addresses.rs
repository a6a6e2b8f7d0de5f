//! The addresses and address families of services.

use cloudeck_machinery::{Value, names};

use super::{SPEC, is_headless};
use crate::check::{Faults, list, present, text};
use crate::network::endpoint_ip;
use crate::service::kind_of;

const ONCE: &str = "may not change once set";

/// Cluster addresses, families and family policy, against each other.
pub(super) fn check(service: &Value, old: Option<&Value>, faults: &mut Faults) {
    let none = Value::Null;
    let spec = service.get("spec").unwrap_or(&none);
    let at = SPEC.field("clusterIPs");
    let (single, all) = (text(spec, "clusterIP"), list(spec, "clusterIPs"));
    let shown = spec.get("clusterIPs").unwrap_or(&Value::Null);
    let first = all.first().and_then(Value::as_str);
    match (single, first) {
        ("", None) => {}
        ("", Some(_)) => faults.invalid(&at, shown, "must be empty when `clusterIP` is not specified"),
        (_, None) => faults.required(&at, ""),
        (single, Some(first)) if first != single => {
            faults.invalid(&at, shown, "first value must match `clusterIP`");
        }
        _ => {}
    }
    families(spec, faults);
    if !sound_addresses(all, shown, old, faults) {
        return;
    }
    if all.len() > 1 && all.iter().filter(|ip| is_six(ip)).count() != 1 {
        faults.invalid(&at, shown, "may specify no more than one IP for each IP family");
    }
    if is_headless(service) {
        return;
    }
    for (i, (ip, family)) in all.iter().zip(list(spec, "ipFamilies")).enumerate() {
        let family = family.as_str().unwrap_or_default();
        if matches!((family, is_six(ip)), ("IPv4", true) | ("IPv6", false)) {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            faults.invalid(&at.index(i), ip, &why);
        }
    }
}

fn is_six(ip: &Value) -> bool {
    ip.as_str().is_some_and(|ip| ip.contains(':'))
}

fn families(spec: &Value, faults: &mut Faults) {
    let at = SPEC.field("ipFamilies");
    let all = list(spec, "ipFamilies");
    for (i, family) in all.iter().enumerate() {
        let name = family.as_str().unwrap_or_default();
        if !matches!(name, "IPv4" | "IPv6") {
            faults.not_supported(&at.index(i), name, &["IPv4", "IPv6"]);
        }
        if all[..i].contains(family) {
            faults.duplicate(&at.index(i), name);
        }
    }
    let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if let Some(policy) = present(spec, "ipFamilyPolicy").and_then(Value::as_str)
        && !supported.contains(&policy)
    {
        faults.not_supported(&SPEC.field("ipFamilyPolicy"), policy, &supported);
    }
}

/// Whether the addresses can be judged further.
fn sound_addresses(all: &[Value], shown: &Value, old: Option<&Value>, faults: &mut Faults) -> bool {
    let at = SPEC.field("clusterIPs");
    let before = old.map(|old| old.items_at(&["spec", "clusterIPs"]));
    let mut sound = true;
    for (i, ip) in all.iter().enumerate() {
        let text = ip.as_str().unwrap_or_default();
        if i == 0 && text == "None" {
            if all.len() > 1 {
                sound = false;
                faults.invalid(&at, shown, "'None' must be the first and only value");
            }
            continue;
        }
        if before.unwrap_or_default().contains(ip) {
            continue;
        }
        let problems = names::ip_legacy(text);
        sound &= problems.is_empty();
        faults.all_invalid(&at.index(i), text, problems);
    }
    if all.len() > 2 {
        faults.invalid(&at, shown, "may only hold up to 2 values");
    }
    sound
}

/// `externalIPs`: like endpoints, neither loopback nor link-local.
pub(super) fn external(spec: &Value, old: Option<&Value>, faults: &mut Faults) {
    let at = SPEC.field("externalIPs");
    let before = old.map(|old| old.items_at(&["spec", "externalIPs"]));
    for (i, ip) in list(spec, "externalIPs").iter().enumerate() {
        let known = before.unwrap_or_default().contains(ip);
        let text = ip.as_str().unwrap_or_default();
        let problems = if known { Vec::new() } else { names::ip_legacy(text) };
        if problems.is_empty() {
            endpoint_ip(text, &at.index(i), faults);
        } else {
            faults.all_invalid(&at.index(i), text, problems);
        }
    }
}

/// What an update may not change: the primary address and family.
pub(super) fn changes(new: &Value, old: &Value, faults: &mut Faults) {
    if kind_of(new) == "ExternalName" || kind_of(old) == "ExternalName" {
        return;
    }
    let headless = [is_headless(new), is_headless(old)];
    if headless != [true, true] {
        list_changes(new, old, "clusterIPs", "clusterIP", faults);
    }
    if headless == [false, false] {
        list_changes(new, old, "ipFamilies", "ipFamily", faults);
    }
}

fn list_changes(new: &Value, old: &Value, field: &str, one: &str, faults: &mut Faults) {
    let at = SPEC.field(field);
    let [now, before] = [new, old].map(|service| service.items_at(&["spec", field]));
    let shown = Value::from(now.to_vec());
    if now.len() == before.len() {
        for (i, _) in now.iter().zip(before).enumerate().filter(|(_, (a, b))| a != b) {
            let place = if one == "clusterIP" { i } else { 0 };
            faults.invalid(&at.index(place), &shown, ONCE);
        }
        return;
    }
    if now.is_empty() {
        let why = format!("primary {one} can not be unset");
        faults.invalid(&at.index(0), &shown, &why);
    }
    if let (Some(now), Some(before)) = (now.first(), before.first())
        && now != before
    {
        faults.invalid(&at.index(0), &shown, ONCE);
    }
    let policy = new.str_at(&["spec", "ipFamilyPolicy"]);
    if before.len() > now.len() && now.len() == 1 && policy != Some("SingleStack") {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        let shown = policy.map_or(Value::Null, Value::from);
        faults.invalid(&SPEC.field("ipFamilyPolicy"), &shown, &why);
    }
}
