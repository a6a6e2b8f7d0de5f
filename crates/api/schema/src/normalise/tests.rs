use cloudeck_machinery::{Value, json, value};

use crate::{normalise, type_of_kind};

fn pod(spec: &str) -> Result<Value, String> {
    normalised(
        "",
        "v1",
        "Pod",
        &format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"a"}},{spec}}}"#),
    )
}

fn normalised(group: &str, version: &str, kind: &str, text: &str) -> Result<Value, String> {
    let mut tree = json::parse(text.as_bytes()).unwrap();
    let ty = type_of_kind(group, version, kind).unwrap();
    normalise(ty, &mut tree).map_err(|errors| errors[0].to_string())?;
    Ok(tree)
}

fn refused(spec: &str, said: &str) {
    assert_eq!(pod(spec).unwrap_err(), said);
}

#[test]
fn quantities_become_canonical_and_numbers_become_texts() {
    let pod = pod(r#""spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":0.5,"memory":"1024Mi","x":1000}}}]}"#)
        .unwrap();
    let limits = pod.at(&["spec", "containers"]).unwrap().as_array().unwrap()[0].at(&["resources", "limits"]);
    assert_eq!(limits, Some(&value!({"cpu": "500m", "memory": "1Gi", "x": "1k"})));
}

#[test]
fn empty_and_absent_members_stay_go_or_appear_as_go_would_have_it() {
    let pod = pod(
        r#""spec":{"containers":[{"name":"c"}],"volumes":[{"name":"v","emptyDir":{}}],"nodeSelector":{},"tolerations":null}"#,
    )
    .unwrap();
    assert_eq!(
        pod.to_string(),
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","resources":{}}],"volumes":[{"emptyDir":{},"name":"v"}]},"status":{}}"#
    );
}

#[test]
fn a_pod_without_containers_has_null_containers() {
    assert_eq!(
        pod(r#""spec":{}"#).unwrap().at(&["spec", "containers"]),
        Some(&Value::Null)
    );
}

#[test]
fn null_times_vanish_and_others_are_cut_to_seconds() {
    let event = normalised(
        "",
        "v1",
        "Event",
        r#"{"metadata":{"creationTimestamp":null},"firstTimestamp":"2024-01-01T01:02:03.9Z","eventTime":"2024-01-01T00:00:00.000001Z"}"#,
    )
    .unwrap();
    assert_eq!(event.at(&["metadata"]), Some(&Value::object()));
    assert_eq!(event.str_at(&["firstTimestamp"]), Some("2024-01-01T01:02:03Z"));
    assert_eq!(event.str_at(&["eventTime"]), Some("2024-01-01T00:00:00.000001Z"));
    assert_eq!(event.at(&["lastTimestamp"]), Some(&Value::Null));
}

#[test]
fn unknown_fields_go_and_names_are_case_sensitive() {
    let pod = pod(r#""spec":{"containers":[],"Containers":[{}],"bogus":1}"#).unwrap();
    assert_eq!(pod.at(&["spec"]), Some(&value!({"containers": []})));
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    refused(
        r#""metadata":{"labels":"x"}"#,
        "json: cannot unmarshal string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
    );
    refused(
        r#""metadata":{"labels":{"a":1}}"#,
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    refused(
        r#""spec":{"containers":[{"ports":[{"containerPort":"http"}]}]}"#,
        "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
    );
    refused(
        r#""spec":{"containers":{}}"#,
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    refused(
        r#""spec":{"priority":99999999999}"#,
        "json: cannot unmarshal number 99999999999 into Go struct field PodSpec.spec.priority of type int32",
    );
    refused(
        r#""spec":{"restartPolicy":true}"#,
        "json: cannot unmarshal bool into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
    );
    refused(
        r#""spec":{"containers":[{"resources":{"limits":{"cpu":"abc"}}}]}"#,
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    refused(
        r#""metadata":{"creationTimestamp":5}"#,
        "json: cannot unmarshal number into Go value of type string",
    );
}

#[test]
fn base64_is_checked_and_unfolded() {
    let secret = |data: &str| normalised("", "v1", "Secret", &format!(r#"{{"data":{{"k":"{data}"}}}}"#));
    assert_eq!(
        secret(r"aGVs\nbG8=").unwrap().str_at(&["data", "k"]),
        Some("aGVsbG8=")
    );
    assert_eq!(secret("a?==").unwrap_err(), "illegal base64 data at input byte 1");
}
