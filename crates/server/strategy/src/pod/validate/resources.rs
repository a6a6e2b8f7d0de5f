//! Resource names and amounts.

use cloudeck_machinery::{Quantity, Value, names};

use crate::check::{At, Faults, NEGATIVE, entries, list, text};
use crate::resource_name as name;

/// The resources of a container; `claims` are the names in the pod's `resourceClaims`.
pub(super) fn container(resources: &Value, claims: &[&str], at: &At<'_>, faults: &mut Faults) {
    requirements(resources, name::check_container, at, faults);
    claim_names(list(resources, "claims"), claims, &at.field("claims"), faults);
}

/// The resources of a pod as a whole.
pub(super) fn pod(resources: &Value, at: &At<'_>, faults: &mut Faults) {
    requirements(resources, check_pod_name, at, faults);
}

/// Amounts that the runtime takes beside the containers.
pub(super) fn overhead(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let limits = at.field("limits");
    for (resource, amount) in entries(spec, "overhead") {
        let at = limits.key(resource);
        name::check_container(resource, &at, faults);
        if let Some(amount) = amount.as_str() {
            quantity(resource, amount, &at, faults);
        }
    }
}

fn check_pod_name(resource: &str, at: &At<'_>, faults: &mut Faults) {
    let before = faults.len();
    name::check(resource, at, faults);
    let known = matches!(resource, "cpu" | "memory") || name::is_huge_page(resource);
    if faults.len() == before && !known {
        faults.not_supported(at, resource, &["cpu", "hugepages-", "memory"]);
    }
}

type NameCheck = fn(&str, &At<'_>, &mut Faults);

fn requirements(resources: &Value, check_name: NameCheck, at: &At<'_>, faults: &mut Faults) {
    let (limits_at, requests_at) = (at.field("limits"), at.field("requests"));
    let (mut compute, mut huge) = (false, false);
    for (list, list_at) in [("limits", &limits_at), ("requests", &requests_at)] {
        for (resource, amount) in entries(resources, list) {
            let at = list_at.key(resource);
            let amount = amount.as_str().unwrap_or_default();
            check_name(resource, &at, faults);
            quantity(resource, amount, &at, faults);
            if list == "requests" {
                against_limit(resources, resource, amount, [&requests_at, &limits_at], faults);
            }
            if name::is_huge_page(resource) {
                huge = true;
                if !divides(resource, amount) {
                    let why = format!("{amount} is not positive integer multiple of {resource}");
                    faults.invalid(&at, amount, &why);
                }
            }
            compute |= matches!(resource, "cpu" | "memory");
        }
    }
    if huge && !compute {
        faults.forbidden(at, "HugePages require cpu or memory");
    }
}

fn against_limit(resources: &Value, resource: &str, amount: &str, at: [&At<'_>; 2], faults: &mut Faults) {
    let [requests_at, limits_at] = at;
    let overcommit = name::may_overcommit(resource);
    let Some(limit) = resources.str_at(&["limits", resource]) else {
        if !overcommit {
            faults.required(limits_at, "Limit must be set for non overcommitable resources");
        }
        return;
    };
    if amount == limit {
        return;
    }
    let (Ok(asked), Ok(bound)) = (amount.parse::<Quantity>(), limit.parse::<Quantity>()) else {
        return;
    };
    if asked != bound && !overcommit {
        let why = format!("must be equal to {resource} limit of {limit}");
        faults.invalid(requests_at, amount, &why);
    } else if asked > bound {
        let why = format!("must be less than or equal to {resource} limit of {limit}");
        faults.invalid(requests_at, amount, &why);
    }
}

fn divides(resource: &str, amount: &str) -> bool {
    let size = resource.strip_prefix("hugepages-").unwrap_or_default();
    let (Ok(size), Ok(amount)) = (size.parse::<Quantity>(), amount.parse::<Quantity>()) else {
        return false;
    };
    !size.is_zero()
        && !size.is_negative()
        && !size.is_fractional()
        && amount.value().checked_rem(size.value()) == Some(0)
}

/// An amount: not negative, whole where the resource is counted.
pub(crate) fn quantity(resource: &str, amount: &str, at: &At<'_>, faults: &mut Faults) {
    // The common forms, without a parse: digits and a unit.
    let plain = amount
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'M' | b'G' | b'K' | b'i'));
    if plain {
        return;
    }
    let Ok(parsed) = amount.parse::<Quantity>() else {
        return;
    };
    if parsed.is_negative() {
        faults.invalid(at, amount, NEGATIVE);
    }
    if name::is_counted(resource) && parsed.milli_value() % 1000 != 0 {
        faults.invalid(at, amount, "must be an integer");
    }
}

fn claim_names(all: &[Value], known: &[&str], at: &At<'_>, faults: &mut Faults) {
    let mut taken: Vec<String> = Vec::new();
    for (i, claim) in all.iter().enumerate() {
        let at = at.index(i);
        let (own, request) = (text(claim, "name"), text(claim, "request"));
        if own.is_empty() {
            faults.required(&at, "");
            continue;
        }
        let key = if request.is_empty() {
            own.to_owned()
        } else {
            faults.all_invalid(&at.field("request"), request, names::dns1123_label(request));
            format!("{own}/{request}")
        };
        let parts = |other: &String| {
            request.is_empty() && other.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'))
        };
        if taken.iter().any(|other| other == own) {
            faults.duplicate(&at, own);
        } else if taken.contains(&key) || taken.iter().any(parts) {
            faults.duplicate(&at, key.as_str());
        }
        taken.push(key);
        if !known.contains(&own) {
            let mut known = known.to_vec();
            known.sort_unstable();
            let rest = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", known.join(", "))
            };
            let why = format!("must be one of the names in pod.spec.resourceClaims{rest}");
            faults.not_found(&at, own, &why);
        }
    }
}
