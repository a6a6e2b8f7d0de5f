use cloudeck_machinery::json;

use super::*;
use crate::strategy;

/// 2026-01-01T00:10:00Z.
const NOW: i64 = 1_767_226_200;

fn row_of(group: &str, kind: &str, text: &str) -> String {
    let tree = json::parse(text.as_bytes()).unwrap();
    let strategy = strategy(group, kind);
    let row = TableRow {
        now: NOW,
        namespace: "default",
    };
    let cells = (strategy.row)(&tree, row);
    assert_eq!(cells.len(), strategy.columns.len(), "as many cells as columns");
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned))
        .collect();
    cells.join("|")
}

/// READY, STATUS and RESTARTS of a pod with two containers, one init container and the status given.
fn check(status: &str, expected: &str) {
    check_with("", status, expected);
}

fn check_with(meta: &str, status: &str, expected: &str) {
    let pod = format!(
        r#"{{"metadata":{{"name":"p","creationTimestamp":"2026-01-01T00:05:00Z"{meta}}},
            "spec":{{"nodeName":"n","initContainers":[{{"name":"i"}}],"containers":[{{"name":"a"}},{{"name":"b"}}]}},
            "status":{{{status}}}}}"#
    );
    let cells = row_of("", "Pod", &pod);
    let shown: Vec<&str> = cells.split('|').collect();
    assert_eq!(shown[1..4].join(" "), expected, "{status}");
    assert_eq!(shown[4], "5m");
}

#[test]
fn a_pods_status_word_is_the_one_that_kubectl_shows() {
    check(r#""phase":"Pending""#, "0/2 Pending 0");
    check(r#""phase":"Failed","reason":"Evicted""#, "0/2 Evicted 0");
    check(
        r#""phase":"Pending","conditions":[{"type":"PodScheduled","reason":"SchedulingGated","status":"False"}]"#,
        "0/2 SchedulingGated 0",
    );
    check(
        r#""phase":"Pending","initContainerStatuses":[{"name":"i","state":{"running":{}}}]"#,
        "0/2 Init:0/1 0",
    );
    check(
        r#""phase":"Pending","initContainerStatuses":[{"name":"i","restartCount":3,"state":{"waiting":{"reason":"CrashLoopBackOff"}},
            "lastState":{"terminated":{"finishedAt":"2026-01-01T00:08:00Z"}}}]"#,
        "0/2 Init:CrashLoopBackOff 3 (2m ago)",
    );
    check(
        r#""phase":"Pending","initContainerStatuses":[{"name":"i","state":{"terminated":{"exitCode":2}}}]"#,
        "0/2 Init:ExitCode:2 0",
    );
    let done =
        r#""initContainerStatuses":[{"name":"i","restartCount":1,"state":{"terminated":{"exitCode":0}}}]"#;
    check(
        &format!(
            r#""phase":"Running",{done},"containerStatuses":[{{"name":"a","ready":true,"state":{{"running":{{}}}}}},
            {{"name":"b","restartCount":2,"state":{{"waiting":{{"reason":"CrashLoopBackOff"}}}},
            "lastState":{{"terminated":{{"finishedAt":"2026-01-01T00:05:00Z"}}}}}}]"#
        ),
        "1/2 CrashLoopBackOff 2 (5m ago)",
    );
    check(
        r#""phase":"Succeeded","containerStatuses":[{"state":{"terminated":{"exitCode":0,"reason":"Completed"}}},
            {"state":{"terminated":{"exitCode":0,"reason":"Completed"}}}]"#,
        "0/2 Completed 0",
    );
    check(
        r#""phase":"Failed","containerStatuses":[{"state":{"terminated":{"exitCode":0,"reason":"Completed"}}},
            {"state":{"terminated":{"exitCode":1,"reason":"Error"}}}]"#,
        "0/2 Error 0",
    );
    check(
        r#""phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[
            {"state":{"terminated":{"exitCode":0,"reason":"Completed"}}},{"ready":true,"state":{"running":{}}}]"#,
        "1/2 Running 0",
    );
    let deleted = r#","deletionTimestamp":"2026-01-01T00:09:00Z""#;
    check_with(deleted, r#""phase":"Running""#, "0/2 Terminating 0");
    check_with(deleted, r#""phase":"Succeeded""#, "0/2 Succeeded 0");
    check_with(
        deleted,
        r#""phase":"Running","reason":"NodeLost""#,
        "0/2 Unknown 0",
    );
}

#[test]
fn sidecars_count_as_containers() {
    let cells = row_of(
        "",
        "Pod",
        r#"{"metadata":{"name":"p"},"spec":{"initContainers":[{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"a"}]},
            "status":{"phase":"Running","podIPs":[{"ip":"10.0.0.2"}],
            "initContainerStatuses":[{"name":"s","started":true,"ready":true,"state":{"running":{}}}],
            "containerStatuses":[{"name":"a","ready":true,"state":{"running":{}}}]}}"#,
    );
    assert_eq!(cells, "p|2/2|Running|0|<unknown>|10.0.0.2|<none>|<none>|<none>");
}

/// The row of an object named `x`, ten minutes old.
fn check_row(group: &str, kind: &str, rest: &str, expected: &str) {
    let meta = r#""metadata":{"name":"x","creationTimestamp":"2026-01-01T00:00:00Z"}"#;
    let text = format!("{{{meta},{rest}}}");
    assert_eq!(row_of(group, kind, &text), expected, "{kind}");
}

#[test]
fn the_rows_of_services_and_deployments_are_those_of_kubectl() {
    let check = check_row;
    check(
        "",
        "Service",
        r#""spec":{"type":"NodePort","clusterIPs":["10.96.0.5"],"selector":{"app":"x"},
            "ports":[{"port":80,"nodePort":30080,"protocol":"TCP"},{"port":53,"protocol":"UDP"}]}"#,
        "x|NodePort|10.96.0.5|<none>|80:30080/TCP,53/UDP|10m|app=x",
    );
    check(
        "",
        "Service",
        r#""spec":{"type":"LoadBalancer","clusterIPs":["10.96.0.5"]}"#,
        "x|LoadBalancer|10.96.0.5|<pending>|<none>|10m|<none>",
    );
    check(
        "apps",
        "Deployment",
        r#""spec":{"replicas":3,"selector":{"matchLabels":{"app":"x"}},
            "template":{"spec":{"containers":[{"name":"a","image":"i:1"},{"name":"b","image":"j"}]}}},
            "status":{"readyReplicas":2,"updatedReplicas":3,"availableReplicas":2}"#,
        "x|2/3|3|2|10m|a,b|i:1,j|app=x",
    );
    check(
        "apps",
        "ReplicaSet",
        r#""spec":{"replicas":3,"selector":{}},"status":{"replicas":2}"#,
        "x|3|2|0|10m|||<none>",
    );
    check(
        "",
        "Secret",
        r#""type":"Opaque","data":{"a":"","b":""}"#,
        "x|Opaque|2|10m",
    );
    check(
        "",
        "ConfigMap",
        r#""data":{"a":""},"binaryData":{"b":""}"#,
        "x|2|10m",
    );
    check("", "Namespace", r#""status":{"phase":"Active"}"#, "x|Active|10m");
    check("", "ServiceAccount", r#""secrets":[]"#, "x|10m");
}

#[test]
fn the_rows_of_other_kinds_are_those_of_kubectl() {
    let check = check_row;
    check(
        "batch",
        "Job",
        r#""spec":{"completions":3},"status":{"succeeded":1,"startTime":"2026-01-01T00:09:00Z"}"#,
        "x|Running|1/3|60s|10m|||<none>",
    );
    check(
        "",
        "Endpoints",
        r#""subsets":[{"addresses":[{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}],"ports":[{"port":80},{"port":81}]}]"#,
        "x|10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...|10m",
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        r#""addressType":"IPv4","ports":[{"name":"","port":80}],"endpoints":[{"addresses":["10.0.0.1"]}]"#,
        "x|IPv4|80|10.0.0.1|10m",
    );
    check(
        "autoscaling",
        "HorizontalPodAutoscaler",
        r#""spec":{"scaleTargetRef":{"kind":"Deployment","name":"d"},"minReplicas":1,"maxReplicas":5,
            "metrics":[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]}"#,
        "x|Deployment/d|cpu: <unknown>/80%|1|5|0|10m",
    );
}

#[test]
fn a_nodes_row_tells_readiness_roles_and_versions() {
    let cells = row_of(
        "",
        "Node",
        r#"{"metadata":{"name":"n","creationTimestamp":"2026-01-01T00:00:00Z",
            "labels":{"node-role.kubernetes.io/control-plane":""}},"spec":{"unschedulable":true},
            "status":{"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"10.0.0.1"}],
            "nodeInfo":{"kubeletVersion":"v1.37.2","kernelVersion":"6.1","architecture":"amd64"}}}"#,
    );
    assert_eq!(
        cells,
        "n|Ready,SchedulingDisabled|control-plane|10m|v1.37.2|10.0.0.1|<none>|<unknown>|6.1 (amd64)|<unknown>"
    );
}

#[test]
fn an_events_row_tells_when_and_what() {
    let cells = row_of(
        "",
        "Event",
        r#"{"metadata":{"name":"e"},"type":"Normal","reason":"Pulled","message":" done ",
            "involvedObject":{"kind":"Pod","name":"p"},"eventTime":"2026-01-01T00:09:30.000000Z",
            "reportingComponent":"kubelet","reportingInstance":"n"}"#,
    );
    assert_eq!(cells, "30s|Normal|Pulled|pod/p||kubelet, n|done|30s|1|e");
}

#[test]
fn a_bindings_row_tells_its_subjects() {
    let cells = row_of(
        "rbac.authorization.k8s.io",
        "ClusterRoleBinding",
        r#"{"metadata":{"name":"b"},"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"User","name":"u"},
            {"kind":"ServiceAccount","namespace":"n","name":"s"}]}"#,
    );
    assert_eq!(cells, "b|ClusterRole/r|<unknown>|u||n/s");
}
