use crate::expect::{check_create, check_status, check_update};

fn scaler(rest: &str) -> String {
    format!(
        r#"{{"spec":{{"maxReplicas":3,"scaleTargetRef":{{"apiVersion":"apps/v1","kind":"Deployment","name":"d"}}{rest}}}}}"#
    )
}

fn check(rest: &str, expected: &[&str]) {
    check_create("autoscaling", "HorizontalPodAutoscaler", &scaler(rest), expected);
}

#[test]
fn an_autoscaler_has_bounds_and_a_target() {
    check("", &[]);
    check(
        r#","minReplicas":5"#,
        &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
    );
    check(
        r#","minReplicas":0"#,
        &[
            "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
        ],
    );
    check_create(
        "autoscaling",
        "HorizontalPodAutoscaler",
        r#"{"spec":{"scaleTargetRef":{"apiVersion":"v1","kind":"Deployment"}}}"#,
        &[
            "spec.maxReplicas: Required value: must be set and greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            "spec.scaleTargetRef.name: Required value",
            "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
        ],
    );
    let loose = scaler("").replace("apps/v1", "v1");
    check_update("autoscaling", "HorizontalPodAutoscaler", &loose, &loose, &[]);
}

#[test]
fn a_metric_has_one_source_and_one_goal() {
    check(
        r#","metrics":[{"type":"Pods","pods":{"metric":{"name":"rps"},"target":{"type":"AverageValue","averageValue":"10"}}}]"#,
        &[],
    );
    check(
        r#","metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization"}}},{"type":"Pods"},
            {"type":"Resource","resource":{"name":"cpu","target":{"type":"Value","averageUtilization":0}},"pods":{}}]"#,
        &[
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            "spec.metrics[1].pods: Required value: must populate information for the given metric source",
            "spec.metrics[2].pods.metric.name: Required value: must specify a metric name",
            "spec.metrics[2].pods.target.type: Required value: must specify a metric target type",
            "spec.metrics[2].pods.target.type: Invalid value: \"\": must be either Utilization, Value, or AverageValue",
            "spec.metrics[2].pods.target.averageValue: Required value: must specify a positive target averageValue",
            "spec.metrics[2].pods: Forbidden: must populate the given metric source only",
        ],
    );
}

#[test]
fn behaviour_is_bounded() {
    check(
        r#","behavior":{"scaleUp":{"stabilizationWindowSeconds":4000,"policies":[{"type":"Nodes","value":0,"periodSeconds":2000}]}}"#,
        &[
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600",
            "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\"",
            "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 2000: must be less than or equal to 1800",
        ],
    );
}

#[test]
fn a_budget_is_one_number_or_percentage() {
    let check = |spec: &str, expected: &[&str]| {
        let budget = format!(r#"{{"spec":{spec}}}"#);
        check_create("policy", "PodDisruptionBudget", &budget, expected);
    };
    check(r#"{"minAvailable":"50%"}"#, &[]);
    check(
        r#"{"minAvailable":-1,"maxUnavailable":"200%"}"#,
        &[
            "spec: Invalid value: {\"maxUnavailable\":\"200%\",\"minAvailable\":-1}: minAvailable and maxUnavailable cannot be both set",
            "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
            "spec.maxUnavailable: Invalid value: \"200%\": must not be greater than 100%",
        ],
    );
    check_status(
        "policy",
        "PodDisruptionBudget",
        "{}",
        r#"{"status":{"currentHealthy":-1}}"#,
        &["status.currentHealthy: Invalid value: -1: must be greater than or equal to 0"],
    );
}
