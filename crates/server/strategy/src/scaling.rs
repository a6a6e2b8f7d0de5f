//! Kinds that bound or adjust how much runs: autoscalers, disruption budgets, quotas, limit ranges.

mod limits;
mod row;
mod validate;

use cloudeck_machinery::{Map, Value, value};

use crate::{Strategy, fill};

pub(crate) const AUTOSCALER: Strategy = Strategy {
    default: autoscaler_defaults,
    validate_create: validate::autoscaler,
    validate_update: validate::autoscaler_update,
    validate_status_update: validate::autoscaler_status,
    columns: row::AUTOSCALER,
    row: row::autoscaler,
    ..Strategy::GENERIC
};

pub(crate) const DISRUPTION_BUDGET: Strategy = Strategy {
    validate_create: validate::budget,
    validate_update: |new, _| validate::budget(new),
    validate_status_update: validate::budget_status,
    columns: row::BUDGET,
    row: row::budget,
    ..Strategy::GENERIC
};

pub(crate) const RESOURCE_QUOTA: Strategy = Strategy {
    default: |quota| {
        for part in ["spec", "status"] {
            if let Some(part) = fill::member(quota, part) {
                fill::round_resources(part, "hard");
                fill::round_resources(part, "used");
            }
        }
    },
    validate_create: limits::quota,
    warnings: limits::quota_warnings,
    validate_update: limits::quota_update,
    validate_status_update: limits::quota_status,
    columns: row::QUOTA,
    row: row::quota,
    ..Strategy::GENERIC
};

pub(crate) const LIMIT_RANGE: Strategy = Strategy {
    default: limit_range_defaults,
    validate_create: limits::range,
    validate_update: |new, _| limits::range(new),
    ..Strategy::GENERIC
};

/// Source: `SetDefaults_HorizontalPodAutoscaler` of autoscaling/v2, the stored version.
fn autoscaler_defaults(scaler: &mut Value) {
    let Some(spec) = fill::made(scaler, "spec") else {
        return;
    };
    fill::absent(spec, "minReplicas", || 1.into());
    if spec.items_at(&["metrics"]).is_empty() {
        let metric = value!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
        }]);
        spec.set_at(&["metrics"], metric);
    }
    let Some(behavior) = fill::member(spec, "behavior") else {
        return;
    };
    if let Some(up) = fill::made(behavior, "scaleUp") {
        fill::absent(up, "stabilizationWindowSeconds", || 0.into());
        fill::absent(up, "selectPolicy", || "Max".into());
        fill::absent(up, "policies", || {
            value!([
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15}
            ])
        });
    }
    if let Some(down) = fill::made(behavior, "scaleDown") {
        fill::absent(down, "selectPolicy", || "Max".into());
        fill::absent(
            down,
            "policies",
            || value!([{"type": "Percent", "value": 100, "periodSeconds": 15}]),
        );
    }
}

/// Source: `SetDefaults_LimitRangeItem`.
fn limit_range_defaults(range: &mut Value) {
    let Some(spec) = fill::member(range, "spec") else {
        return;
    };
    for item in fill::each(spec, "limits") {
        let list = |item: &Value, key: &str| item.get(key).and_then(Value::as_object).cloned();
        if item.str_at(&["type"]) == Some("Container") {
            let mut pass_on = |from: &str, to: &str| {
                if let Some(from) = list(item, from).filter(|from: &Map| !from.is_empty()) {
                    fill::entries(item, to, &from);
                }
            };
            pass_on("max", "default");
            pass_on("default", "defaultRequest");
            pass_on("min", "defaultRequest");
        }
        for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            fill::round_resources(item, key);
        }
    }
}
