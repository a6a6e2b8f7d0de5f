//! Rows of autoscalers, disruption budgets and quotas.

use cloudeck_machinery::{Map, Value};

use crate::table::{self, AGE, Column, NAME, TableRow, text, typed};

pub(super) const AUTOSCALER: &[Column] = &[
    NAME,
    text("Reference", "What is scaled."),
    text("Targets", "Present and wanted values of the metrics."),
    text("MinPods", "The fewest pods."),
    text("MaxPods", "The most pods."),
    text("Replicas", "Pods that there are."),
    AGE,
];

pub(super) const BUDGET: &[Column] = &[
    NAME,
    text(
        "Min Available",
        "The minimum number of pods that must be available.",
    ),
    text(
        "Max Unavailable",
        "The maximum number of pods that may be unavailable.",
    ),
    typed(
        "Allowed Disruptions",
        "integer",
        "Calculated number of pods that may be disrupted at this time.",
    ),
    AGE,
];

pub(super) const QUOTA: &[Column] = &[
    NAME,
    text("Request", "Used and allowed amounts, but for limits."),
    text("Limit", "Used and allowed amounts of limits."),
    AGE,
];

pub(super) fn autoscaler(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let target = |key| {
        object
            .str_at(&["spec", "scaleTargetRef", key])
            .unwrap_or_default()
    };
    let fewest = object.int_at(&["spec", "minReplicas"]);
    vec![
        table::name(object),
        Value::from(format!("{}/{}", target("kind"), target("name"))),
        Value::from(metrics(object)),
        Value::from(fewest.map_or_else(|| "<unset>".to_owned(), |count| count.to_string())),
        table::integer(object, &["spec", "maxReplicas"]),
        table::integer(object, &["status", "currentReplicas"]),
        table::age(object, row),
    ]
}

/// Lists longer than this are cut.
const SHOWN: usize = 2;

fn metrics(object: &Value) -> String {
    let specs = object.items_at(&["spec", "metrics"]);
    let statuses = object.items_at(&["status", "currentMetrics"]);
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let all: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(at, spec)| metric(spec, statuses.get(at)))
        .collect();
    let shown = all[..all.len().min(SHOWN)].join(", ");
    if all.len() > SHOWN {
        format!("{shown} + {} more...", all.len() - SHOWN)
    } else {
        shown
    }
}

fn metric(spec: &Value, status: Option<&Value>) -> String {
    let (key, named) = match spec.str_at(&["type"]) {
        Some("External") => ("external", false),
        Some("Pods") => ("pods", false),
        Some("Object") => ("object", false),
        Some("Resource") => ("resource", true),
        Some("ContainerResource") => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let amount = |value: &str| {
        let wanted = spec.str_at(&[key, "target", value])?.to_owned();
        let present = status.and_then(|status| status.str_at(&[key, "current", value]));
        Some((present.unwrap_or("<unknown>").to_owned(), wanted))
    };
    let average = amount("averageValue");
    let pair = if let Some((present, wanted)) = average {
        let mark = if named || key == "pods" { "" } else { " (avg)" };
        format!("{present}/{wanted}{mark}")
    } else if named {
        let percent = |tree: Option<&Value>, part| {
            let number = tree.and_then(|tree| tree.int_at(&[key, part, "averageUtilization"]));
            number.map(|number| format!("{number}%"))
        };
        let present = percent(status, "current").unwrap_or_else(|| "<unknown>".to_owned());
        let wanted = percent(Some(spec), "target").unwrap_or_else(|| "<auto>".to_owned());
        format!("{present}/{wanted}")
    } else {
        let (present, wanted) = amount("value").unwrap_or_else(|| ("<unknown>".into(), "<nil>".into()));
        format!("{present}/{wanted}")
    };
    if named {
        let name = spec.str_at(&[key, "name"]).unwrap_or_default();
        format!("{name}: {pair}")
    } else {
        pair
    }
}

pub(super) fn budget(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let amount = |key| match object.at(&["spec", key]) {
        Some(Value::Int(number)) => Value::from(number.to_string()),
        Some(Value::String(text)) => Value::from(text.clone()),
        _ => Value::from("N/A"),
    };
    vec![
        table::name(object),
        amount("minAvailable"),
        amount("maxUnavailable"),
        table::integer(object, &["status", "disruptionsAllowed"]),
        table::age(object, row),
    ]
}

pub(super) fn quota(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let hard = object.at(&["status", "hard"]).and_then(Value::as_object);
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, allowed) in hard.into_iter().flat_map(Map::iter) {
        let used = object.str_at(&["status", "used", resource]).unwrap_or("0");
        let text = format!("{resource}: {used}/{}", allowed.as_str().unwrap_or_default());
        if resource.starts_with("limits.") {
            limits.push(text);
        } else {
            requests.push(text);
        }
    }
    vec![
        table::name(object),
        Value::from(requests.join(", ")),
        Value::from(limits.join(", ")),
        table::age(object, row),
    ]
}
