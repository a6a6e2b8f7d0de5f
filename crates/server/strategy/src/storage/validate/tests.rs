use crate::expect::{check_create, check_update, defaulted, lines};

const CLAIM: &str = r#"{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}},"storageClassName":"a"}}"#;

#[test]
fn a_claim_says_how_much_of_what() {
    check_create("", "PersistentVolumeClaim", CLAIM, &[]);
    check_create(
        "",
        "PersistentVolumeClaim",
        r#"{"spec":{"accessModes":["Any","ReadWriteOnce","ReadWriteOncePod"],"resources":{"requests":{"storage":"0"}},"volumeMode":"Tape",
            "storageClassName":"A","dataSource":{"kind":"Disk","name":"d"}}}"#,
        &[
            "spec.accessModes: Unsupported value: \"Any\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            "spec.storageClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            "spec.dataSource: Invalid value: \"Disk\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ],
    );
}

#[test]
fn a_claim_is_bound_once_and_then_only_grows() {
    let bound = |size: &str| {
        CLAIM.replace("1Gi", size).replace(
            r#""storageClassName":"a"}"#,
            r#""storageClassName":"a","volumeName":"v"},"status":{"phase":"Bound","capacity":{"storage":"2Gi"}}"#,
        )
    };
    check_update("", "PersistentVolumeClaim", CLAIM, &bound("1Gi"), &[]);
    check_update("", "PersistentVolumeClaim", &bound("1Gi"), &bound("3Gi"), &[]);
    check_update("", "PersistentVolumeClaim", &bound("4Gi"), &bound("3Gi"), &[]);
    check_update(
        "",
        "PersistentVolumeClaim",
        &bound("4Gi"),
        &bound("2Gi"),
        &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
    );
    let other = CLAIM.replace(r#""a""#, r#""b""#);
    let [new, old] = [&other, CLAIM].map(|text| defaulted("", "PersistentVolumeClaim", text));
    let causes = (crate::strategy("", "PersistentVolumeClaim").validate_update)(&new, &old);
    assert!(
        lines(&causes)[0].starts_with(
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"
        ),
        "{causes:?}"
    );
}

#[test]
fn a_class_may_be_set_later() {
    let without = CLAIM.replace(r#","storageClassName":"a""#, "");
    check_update("", "PersistentVolumeClaim", &without, CLAIM, &[]);
}

#[test]
fn a_volume_is_of_one_kind() {
    let volume = |source: &str| {
        format!(r#"{{"spec":{{"accessModes":["ReadWriteOnce"],"capacity":{{"storage":"1Gi"}}{source}}}}}"#)
    };
    let check = |source: &str, expected: &[&str]| {
        check_create("", "PersistentVolume", &volume(source), expected);
    };
    check(r#","hostPath":{"path":"/data"}"#, &[]);
    check("", &["spec: Required value: must specify a volume type"]);
    check(
        r#","hostPath":{"path":"/"},"nfs":{"server":"s","path":"/"},"persistentVolumeReclaimPolicy":"Recycle""#,
        &[
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
            "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
        ],
    );
    check(
        r#","local":{"path":"/data"}"#,
        &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
    );
    check(
        r#","csi":{"driver":"a.b"},"capacity":{"cpu":"1"}"#,
        &[
            "spec.capacity: Unsupported value: {\"cpu\":\"1\"}: supported values: \"storage\"",
            "spec.csi.volumeHandle: Required value",
        ],
    );
}

#[test]
fn a_class_names_its_provisioner() {
    check_create(
        "storage.k8s.io",
        "StorageClass",
        r#"{"provisioner":"a/b/c","reclaimPolicy":"Recycle"}"#,
        &[
            "provisioner: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
        ],
    );
}
