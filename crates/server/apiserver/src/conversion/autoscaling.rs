//! Horizontal scalers: `autoscaling/v1` knows one CPU target; whatever else `v2` holds travels in annotations.

use cloudeck_machinery::{Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// `autoscaling/v1` → `v2`.
pub(super) fn to_v2(tree: &mut Value) {
    let target = tree.remove_at(&["spec", "targetCPUUtilizationPercentage"]);
    let mut metrics = match take_annotation(tree, METRICS) {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    if let Some(Value::Int(percent)) = target {
        metrics.insert(0, cpu_metric("target", "averageUtilization", percent));
    }
    if !metrics.is_empty() {
        tree.set_at(&["spec", "metrics"], metrics);
    }
    if let Some(behavior) = take_annotation(tree, BEHAVIOR) {
        tree.set_at(&["spec", "behavior"], behavior);
    }
    if let Some(conditions) = take_annotation(tree, CONDITIONS) {
        tree.set_at(&["status", "conditions"], conditions);
    }
    let current = tree.remove_at(&["status", "currentCPUUtilizationPercentage"]);
    let mut now = match take_annotation(tree, CURRENT) {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    if let Some(Value::Int(percent)) = current {
        now.insert(0, cpu_metric("current", "averageUtilization", percent));
    }
    if !now.is_empty() {
        tree.set_at(&["status", "currentMetrics"], now);
    }
}

/// `autoscaling/v2` → `v1`.
pub(super) fn from_v2(tree: &mut Value) {
    let metrics = tree.remove_at(&["spec", "metrics"]);
    split_metrics(
        tree,
        metrics,
        "target",
        &["spec", "targetCPUUtilizationPercentage"],
        METRICS,
    );
    let current = tree.remove_at(&["status", "currentMetrics"]);
    split_metrics(
        tree,
        current,
        "current",
        &["status", "currentCPUUtilizationPercentage"],
        CURRENT,
    );
    if let Some(behavior) = tree.remove_at(&["spec", "behavior"]) {
        set_annotation(tree, BEHAVIOR, &behavior);
    }
    if let Some(conditions) = tree.remove_at(&["status", "conditions"]) {
        set_annotation(tree, CONDITIONS, &conditions);
    }
}

fn split_metrics(
    tree: &mut Value,
    metrics: Option<Value>,
    side: &str,
    percent_at: &[&str],
    annotation: &str,
) {
    let Some(Value::Array(mut metrics)) = metrics else {
        return;
    };
    let cpu = metrics.iter().position(|metric| {
        metric.str_at(&["resource", "name"]) == Some("cpu")
            && metric.int_at(&["resource", side, "averageUtilization"]).is_some()
    });
    if let Some(at) = cpu {
        let metric = metrics.remove(at);
        if let Some(percent) = metric.int_at(&["resource", side, "averageUtilization"]) {
            tree.set_at(percent_at, percent);
        }
    }
    if !metrics.is_empty() {
        set_annotation(tree, annotation, &Value::Array(metrics));
    }
}

fn cpu_metric(side: &str, field: &str, percent: i64) -> Value {
    let mut metric = Value::object();
    metric.set_at(&["type"], "Resource");
    metric.set_at(&["resource", "name"], "cpu");
    if side == "target" {
        metric.set_at(&["resource", side, "type"], "Utilization");
    }
    metric.set_at(&["resource", side, field], percent);
    metric
}

fn take_annotation(tree: &mut Value, name: &str) -> Option<Value> {
    let text = tree.remove_at(&["metadata", "annotations", name])?;
    json::parse(text.as_str()?.as_bytes()).ok()
}

fn set_annotation(tree: &mut Value, name: &str, value: &Value) {
    tree.set_at(&["metadata", "annotations", name], value.to_string());
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[test]
    fn the_cpu_target_moves_and_the_rest_survives_in_annotations() {
        let mut tree =
            value!({"metadata": {}, "spec": {"targetCPUUtilizationPercentage": 80, "maxReplicas": 3}});
        to_v2(&mut tree);
        assert_eq!(
            tree.items_at(&["spec", "metrics"])[0].int_at(&["resource", "target", "averageUtilization"]),
            Some(80)
        );
        tree.set_at(
            &["spec", "behavior"],
            value!({"scaleUp": {"stabilizationWindowSeconds": 1}}),
        );
        let stored = tree.clone();
        from_v2(&mut tree);
        assert_eq!(tree.int_at(&["spec", "targetCPUUtilizationPercentage"]), Some(80));
        to_v2(&mut tree);
        assert_eq!(tree.at(&["spec"]), stored.at(&["spec"]));
    }
}
