//! Validation of quotas and limit ranges.
//!
//! Source: `pkg/apis/core/validation/validation.go`.

use std::collections::BTreeSet;

use cloudeck_machinery::{Cause, Quantity, Value, names};

use crate::check::{At, Faults, IMMUTABLE, entries, list, present, text};
use crate::pod::validate::quantity;
use crate::resource_name;

const SPEC: At<'static> = At::root("spec");
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
/// Scopes that a pod has or has not, without a value.
const VALUELESS: [&str; 5] = [
    "BestEffort",
    "NotBestEffort",
    "Terminating",
    "NotTerminating",
    "CrossNamespacePodAffinity",
];
const COMPUTE: [&str; 6] = [
    "cpu",
    "memory",
    "limits.cpu",
    "limits.memory",
    "requests.cpu",
    "requests.memory",
];

pub(super) fn quota(quota: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    quota_spec(quota, &mut faults);
    faults.into_causes()
}

pub(super) fn quota_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    quota_spec(new, &mut faults);
    let scopes = |quota: &Value| -> BTreeSet<String> {
        let scopes = quota.items_at(&["spec", "scopes"]).iter();
        scopes.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if scopes(new) != scopes(old) {
        let shown = new.at(&["spec", "scopes"]).unwrap_or(&Value::Null);
        faults.invalid(&SPEC.field("scopes"), shown, IMMUTABLE);
    }
    faults.into_causes()
}

pub(super) fn quota_status(new: &Value, _old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let (status, at) = (new.get("status").unwrap_or(&none), At::root("status"));
    for field in ["hard", "used"] {
        amounts(status, field, &at.field(field), &mut faults);
    }
    faults.into_causes()
}

fn amounts(parent: &Value, field: &str, at: &At<'_>, faults: &mut Faults) {
    for (resource, amount) in entries(parent, field) {
        let at = at.key(resource);
        let before = faults.len();
        resource_name::check(resource, &at, faults);
        let standard = resource_name::is_standard_of_quotas(resource);
        if faults.len() == before && !resource.contains('/') && !standard {
            faults.invalid(&at, resource, "must be a standard resource for quota");
        }
        quantity(resource, amount.as_str().unwrap_or_default(), &at, faults);
    }
}

fn quota_spec(quota: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = quota.get("spec").unwrap_or(&none);
    amounts(spec, "hard", &SPEC.field("hard"), faults);
    let scopes: Vec<&str> = list(spec, "scopes").iter().filter_map(Value::as_str).collect();
    let (at, shown) = (SPEC.field("scopes"), spec.get("scopes").unwrap_or(&none));
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            faults.invalid(&at, shown, "unsupported scope");
        }
        for _ in unfit(spec, scope) {
            faults.invalid(&at, shown, "unsupported scope applied to resource");
        }
    }
    conflicts(&scopes, &at, shown, faults);
    if let Some(selector) = present(spec, "scopeSelector") {
        scope_selector(spec, selector, faults);
    }
}

/// The resources of the quota to which the scope means nothing.
fn unfit<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a str> {
    entries(spec, "hard")
        .map(|(resource, _)| resource)
        .filter(|resource| resource_name::is_standard_of_quotas(resource))
        .filter(move |resource| match scope {
            "BestEffort" => *resource != "pods",
            "Terminating"
            | "NotTerminating"
            | "NotBestEffort"
            | "PriorityClass"
            | "CrossNamespacePodAffinity" => *resource != "pods" && !COMPUTE.contains(resource),
            "VolumeAttributesClass" => !matches!(*resource, "persistentvolumeclaims" | "requests.storage"),
            _ => false,
        })
}

fn conflicts(scopes: &[&str], at: &At<'_>, shown: &Value, faults: &mut Faults) {
    for pair in CONFLICTS {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            faults.invalid(at, shown, "conflicting scopes");
        }
    }
}

fn scope_selector(spec: &Value, selector: &Value, faults: &mut Faults) {
    let at = SPEC.field("scopeSelector");
    let at = at.field("matchExpressions");
    let mut seen = Vec::new();
    for rule in list(selector, "matchExpressions") {
        let (scope, operator) = (text(rule, "scopeName"), text(rule, "operator"));
        if !SCOPES.contains(&scope) {
            faults.invalid(&at.field("scopeName"), scope, "unsupported scope");
        }
        for _ in unfit(spec, scope) {
            faults.invalid(&at, selector, "unsupported scope applied to resource");
        }
        if VALUELESS.contains(&scope) && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            faults.invalid(&at.field("operator"), operator, why);
        }
        let values = list(rule, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                faults.required(&at.field("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let shown = rule.get("values").unwrap_or(&Value::Null);
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                faults.invalid(&at.field("values"), shown, why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => faults.invalid(&at.field("operator"), other, "not a valid selector operator"),
        }
        seen.push(scope);
    }
    let shown = spec.get("scopes").unwrap_or(&Value::Null);
    conflicts(&seen, &at, shown, faults);
}

pub(super) fn range(range: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let at = SPEC.field("limits");
    let limits = range.items_at(&["spec", "limits"]);
    for (i, limit) in limits.iter().enumerate() {
        let (at, kind) = (at.index(i), text(limit, "type"));
        limit_type(kind, &at.field("type"), &mut faults);
        if limits[..i].iter().any(|other| text(other, "type") == kind) {
            faults.duplicate(&at.field("type"), kind);
        }
        one_limit(limit, kind, &at, &mut faults);
    }
    faults.into_causes()
}

fn limit_type(kind: &str, at: &At<'_>, faults: &mut Faults) {
    let problems = names::qualified_name(kind);
    let sound = problems.is_empty();
    faults.all_invalid(at, kind, problems);
    let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if sound && !kind.contains('/') && !standard {
        faults.invalid(at, kind, "must be a standard limit type or fully qualified");
    }
}

fn one_limit(limit: &Value, kind: &str, at: &At<'_>, faults: &mut Faults) {
    let fields = ["max", "min", "default", "defaultRequest"];
    let mut resources = BTreeSet::new();
    for field in fields {
        let is_default = field.starts_with("default");
        if kind == "Pod" && is_default {
            if entries(limit, field).next().is_some() {
                faults.forbidden(&at.field(field), "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        names_of(limit, field, kind, at, &mut resources, faults);
    }
    let has = |field: &str| limit.at(&[field, "storage"]).is_some();
    if kind == "PersistentVolumeClaim" && !has("min") && !has("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        faults.required(&at.field("limits"), why);
    }
    names_of(limit, "maxLimitRequestRatio", kind, at, &mut resources, faults);
    for resource in resources {
        bounds(limit, kind, resource, at, faults);
    }
}

fn names_of<'a>(
    limit: &'a Value,
    field: &str,
    kind: &str,
    at: &At<'_>,
    resources: &mut BTreeSet<&'a str>,
    faults: &mut Faults,
) {
    for (resource, _) in entries(limit, field) {
        let at = at.field(field);
        let at = at.key(resource);
        if matches!(kind, "Pod" | "Container") {
            resource_name::check_container(resource, &at, faults);
        } else {
            resource_name::check(resource, &at, faults);
        }
        resources.insert(resource);
    }
}

/// The amounts of one resource are in order.
fn bounds(limit: &Value, kind: &str, resource: &str, at: &At<'_>, faults: &mut Faults) {
    let amount = |field: &str| -> Option<(&str, Quantity)> {
        if kind == "Pod" && field.starts_with("default") {
            return None;
        }
        let text = limit.str_at(&[field, resource])?;
        Some((text, text.parse().ok()?))
    };
    // Which two, in which order, under which field and which of both is shown.
    let rules = [
        ("min", "max", "min", "min", ["min value", "max value"]),
        (
            "min",
            "defaultRequest",
            "defaultRequest",
            "defaultRequest",
            ["min value", "default request value"],
        ),
        (
            "defaultRequest",
            "max",
            "defaultRequest",
            "defaultRequest",
            ["default request value", "max value"],
        ),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "defaultRequest",
            ["default request value", "default limit value"],
        ),
        ("min", "default", "default", "min", ["min value", "default value"]),
        ("default", "max", "default", "max", ["default value", "max value"]),
    ];
    for (low, high, field, shown, [low_name, high_name]) in rules {
        let (Some(low), Some(high), Some(shown)) = (amount(low), amount(high), amount(shown)) else {
            continue;
        };
        if low.1 > high.1 {
            let why = format!("{low_name} {} is greater than {high_name} {}", low.0, high.0);
            faults.invalid(&at.field(field).key(resource), shown.0, &why);
        }
    }
    if let Some(ratio) = amount("maxLimitRequestRatio") {
        let at = at.field("maxLimitRequestRatio");
        let at = at.key(resource);
        if ratio.1.as_f64() < 1.0 {
            faults.invalid(&at, ratio.0, &format!("ratio {} is less than 1", ratio.0));
        }
        if let (Some(min), Some(max)) = (amount("min"), amount("max")) {
            let most = max.1.as_f64() / min.1.as_f64();
            if ratio.1.as_f64() > most {
                let why = format!("ratio {} is greater than max/min = {most:.6}", ratio.0);
                faults.invalid(&at, ratio.0, &why);
            }
        }
    }
    let (default, request) = (amount("default"), amount("defaultRequest"));
    if let (Some(default), Some(request)) = (default, request)
        && !resource_name::may_overcommit(resource)
        && default.1 != request.1
    {
        let why = format!(
            "default value {} must equal to defaultRequest value {} in {resource}",
            default.0, request.0
        );
        faults.invalid(&at.field("defaultRequest").key(resource), request.0, &why);
    }
}

/// Of a new quota that lets more be asked for than used.
pub(super) fn quota_warnings(quota: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() {
        return Vec::new();
    }
    let amount = |name: &str| -> Option<Quantity> { quota.str_at(&["spec", "hard", name])?.parse().ok() };
    let warning = |resource: &str| {
        let (mut request, limit) = (format!("requests.{resource}"), format!("limits.{resource}"));
        if amount(&request).is_none() && matches!(resource, "cpu" | "memory") {
            resource.clone_into(&mut request);
        }
        let (requested, limited) = (amount(&request)?, amount(&limit)?);
        (requested > limited)
            .then(|| format!("ResourceQuota {request} ({requested}) should be less than {limit} ({limited})"))
    };
    let known = ["cpu", "memory", "storage", "ephemeral-storage"];
    known.into_iter().filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use crate::expect::{check_create, check_update};

    fn quota(spec: &str) -> String {
        format!(r#"{{"spec":{spec}}}"#)
    }

    #[test]
    fn a_quota_bounds_what_can_be_counted() {
        let check = |spec: &str, expected: &[&str]| check_create("", "ResourceQuota", &quota(spec), expected);
        check(
            r#"{"hard":{"pods":"10","requests.cpu":"4","count/deployments.apps":"3","requests.example.com/gpu":"1"}}"#,
            &[],
        );
        check(
            r#"{"hard":{"pods":"1500m","storage":"1","widgets":"1"}}"#,
            &[
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
                "spec.hard[widgets]: Invalid value: \"widgets\": must be a standard resource type or fully qualified",
            ],
        );
        check(
            r#"{"hard":{"cpu":"1"},"scopes":["BestEffort","NotBestEffort","Other"]}"#,
            &[
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Other\"]: unsupported scope applied to resource",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Other\"]: unsupported scope",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Other\"]: conflicting scopes",
            ],
        );
        check(
            r#"{"hard":{"pods":"1"},"scopeSelector":{"matchExpressions":[{"scopeName":"PriorityClass","operator":"In"}]}}"#,
            &[
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ],
        );
        check_update(
            "",
            "ResourceQuota",
            &quota(r#"{"hard":{"pods":"1"}}"#),
            &quota(r#"{"hard":{"pods":"1"},"scopes":["BestEffort"]}"#),
            &["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"],
        );
    }

    #[test]
    fn the_bounds_of_a_range_are_in_order() {
        let check = |limit: &str, expected: &[&str]| {
            let range = format!(r#"{{"spec":{{"limits":[{limit}]}}}}"#);
            check_create("", "LimitRange", &range, expected);
        };
        check(
            r#"{"type":"Container","min":{"cpu":"100m"},"max":{"cpu":"1"},"default":{"cpu":"500m"},"defaultRequest":{"cpu":"200m"}}"#,
            &[],
        );
        check(
            r#"{"type":"Container","min":{"cpu":"2"},"max":{"cpu":"1"},"default":{"cpu":"3"},"defaultRequest":{"cpu":"2"},"maxLimitRequestRatio":{"cpu":"3"}}"#,
            &[
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than max value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"1\": default value 3 is greater than max value 1",
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 0.500000",
            ],
        );
        check(
            r#"{"type":"Pod","default":{"cpu":"1"}},{"type":"Pod"},{"type":"PersistentVolumeClaim"},{"type":"Node"}"#,
            &[
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                "spec.limits[1].type: Duplicate value: \"Pod\"",
                "spec.limits[2].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
                "spec.limits[3].type: Invalid value: \"Node\": must be a standard limit type or fully qualified",
            ],
        );
    }
}
