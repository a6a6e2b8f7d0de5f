use crate::expect::{check_create, check_update};

#[test]
fn keys_are_file_names_and_values_fit_in_a_megabyte() {
    check_create(
        "",
        "ConfigMap",
        r#"{"data":{"a.b_c-D":"x"},"binaryData":{"e":"eA=="}}"#,
        &[],
    );
    check_create(
        "",
        "ConfigMap",
        r#"{"data":{"a b":"x","e":""},"binaryData":{"e":"eA==","..":""}}"#,
        &[
            "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            "data[e]: Invalid value: \"e\": duplicate of key present in binaryData",
            "binaryData[..]: Invalid value: \"..\": must not be '..'",
        ],
    );
    let big = "x".repeat(1024 * 1024 + 1);
    check_create(
        "",
        "ConfigMap",
        &format!(r#"{{"data":{{"a":"{big}"}}}}"#),
        &[": Too long: may not be more than 1048576 bytes"],
    );
}

#[test]
fn immutable_maps_and_secrets_stay_as_they_are() {
    for kind in ["ConfigMap", "Secret"] {
        let old = r#"{"immutable":true,"data":{"a":"eA=="}}"#;
        check_update("", kind, old, old, &[]);
        check_update(
            "",
            kind,
            old,
            r#"{"data":{"a":"eQ=="}}"#,
            &[
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        );
    }
}

#[test]
fn secrets_hold_what_their_type_demands() {
    let check = |kind: &str, data: &str, expected: &[&str]| {
        check_create(
            "",
            "Secret",
            &format!(r#"{{"type":"{kind}","data":{{{data}}}}}"#),
            expected,
        );
    };
    check("Opaque", "", &[]);
    check("example.com/own", "", &[]);
    check(
        "kubernetes.io/tls",
        "",
        &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
    );
    check(
        "kubernetes.io/basic-auth",
        "",
        &["data[username]: Required value", "data[password]: Required value"],
    );
    check("kubernetes.io/basic-auth", r#""password":"eA==""#, &[]);
    check(
        "kubernetes.io/ssh-auth",
        r#""ssh-privatekey":"""#,
        &["data[ssh-privatekey]: Required value"],
    );
    check(
        "kubernetes.io/dockerconfigjson",
        r#""." : """#,
        &[
            "data[.]: Invalid value: \".\": must not be '.'",
            "data[.dockerconfigjson]: Required value",
        ],
    );
    // `{"auths":{}}`
    check(
        "kubernetes.io/dockerconfigjson",
        r#"".dockerconfigjson":"eyJhdXRocyI6e319""#,
        &[],
    );
    check(
        "kubernetes.io/service-account-token",
        "",
        &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
    );
    check_update(
        "",
        "Secret",
        r#"{"type":"a"}"#,
        r#"{"type":"b"}"#,
        &["type: Invalid value: \"b\": field is immutable"],
    );
}
