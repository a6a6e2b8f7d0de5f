use cloudeck_machinery::{Cause, Value, json};

use crate::strategy;

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn lines(causes: &[Cause]) -> Vec<String> {
    causes
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

/// A defaulted pod whose specification has the members given besides one sound container.
fn pod(spec: &str) -> Value {
    let spec = if spec.contains("\"containers\"") {
        spec.to_owned()
    } else {
        let comma = if spec.is_empty() { "" } else { "," };
        format!(r#"{spec}{comma}"containers":[{{"name":"c","image":"i:1"}}]"#)
    };
    let mut pod = tree(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{{{spec}}}}}"#
    ));
    (strategy("", "Pod").default)(&mut pod);
    pod
}

fn check(spec: &str, expected: &[&str]) {
    let causes = (strategy("", "Pod").validate_create)(&pod(spec));
    assert_eq!(lines(&causes), expected, "{spec}");
}

/// One container with the members given.
fn check_container(members: &str, expected: &[&str]) {
    let volumes = r#""volumes":[{"name":"v"},{"name":"w","persistentVolumeClaim":{"claimName":"x"}}]"#;
    check(
        &format!(r#"{volumes},"containers":[{{"name":"c","image":"i:1",{members}}}]"#),
        expected,
    );
}

#[test]
fn a_sound_pod_has_no_errors() {
    check("", &[]);
    check(
        r#""serviceAccountName":"default","nodeSelector":{"a":"b"},"tolerations":[{"operator":"Exists"}],
        "volumes":[{"name":"t","projected":{"sources":[{"serviceAccountToken":{"path":"token","expirationSeconds":3607}},
            {"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},
            {"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"fieldPath":"metadata.namespace"}}]}}]}},
            {"name":"h","hostPath":{"path":"/x"}},{"name":"e","emptyDir":{"medium":"Memory","sizeLimit":"1Gi"}}],
        "securityContext":{"runAsUser":1000,"fsGroup":0,"sysctls":[{"name":"net.ipv4.tcp_syncookies","value":"1"}],
            "seccompProfile":{"type":"RuntimeDefault"}},
        "initContainers":[{"name":"s","image":"i","restartPolicy":"Always","startupProbe":{"exec":{"command":["a"]}}}],
        "containers":[{"name":"c","image":"i:1","env":[{"name":"A","value":"b"},
            {"name":"B","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['app']"}}},
            {"name":"C","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"0"}}},
            {"name":"D","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}],
            "envFrom":[{"configMapRef":{"name":"m"}}],
            "ports":[{"name":"http","containerPort":80},{"containerPort":81,"protocol":"UDP"}],
            "volumeMounts":[{"name":"t","mountPath":"/t","readOnly":true},{"name":"e","mountPath":"/e","subPath":"a/b"}],
            "resources":{"limits":{"cpu":"1","example.com/gpu":"1"},"requests":{"cpu":"500m"}},
            "readinessProbe":{"httpGet":{"port":"http"}},"livenessProbe":{"tcpSocket":{"port":80}},
            "lifecycle":{"preStop":{"sleep":{"seconds":5}}}}],
        "affinity":{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"podAffinityTerm":
            {"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"a":"b"}}}}]}},
        "topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule",
            "labelSelector":{"matchLabels":{"a":"b"}}}]"#,
        &[],
    );
}

#[test]
fn certificates_and_bundles_of_a_volume_name_signers_and_paths() {
    let source = |source: &str, expected: &[&str]| {
        let at = "spec.volumes[0].projected.sources[0]";
        let expected: Vec<String> = expected.iter().map(|why| why.replace('@', at)).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(
            &format!(
                r#""volumes":[{{"name":"v","projected":{{"sources":[{source}]}}}}],"containers":[{{"name":"c","image":"i:1"}}]"#
            ),
            &expected,
        );
    };
    source(
        r#"{"podCertificate":{"signerName":"example.com/s","keyType":"ED25519","maxExpirationSeconds":7862400,"keyPath":"k"}}"#,
        &[],
    );
    source(
        r#"{"podCertificate":{"signerName":"example.com/s","keyType":"ED25519","maxExpirationSeconds":7862401,"keyPath":"k"}}"#,
        &[
            "@.podCertificate.maxExpirationSeconds: Invalid value: 7862401: if provided, maxExpirationSeconds must be <= 7862400",
        ],
    );
    source(
        r#"{"podCertificate":{"signerName":"a.kubernetes.io/s","keyType":"ED25519","maxExpirationSeconds":86401,"keyPath":"k"}}"#,
        &[
            "@.podCertificate.maxExpirationSeconds: Invalid value: 86401: if provided, maxExpirationSeconds must be <= 86400",
        ],
    );
    source(
        r#"{"podCertificate":{"signerName":"example.com/s","keyType":"ED25519","maxExpirationSeconds":3599}}"#,
        &[
            "@.podCertificate.maxExpirationSeconds: Invalid value: 3599: if provided, maxExpirationSeconds must be >= 3600",
            "@.podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
        ],
    );
    source(
        r#"{"clusterTrustBundle":{"name":"example.com:s:b","path":"p"}}"#,
        &[],
    );
    source(
        r#"{"clusterTrustBundle":{"path":"p"}}"#,
        &["@.clusterTrustBundle: Required value: either name or signerName must be specified"],
    );
}

#[test]
fn containers_need_names_images_and_a_list() {
    check(r#""containers":[]"#, &["spec.containers: Required value"]);
    check(
        r#""containers":[{"name":"c"},{"name":"c","image":" i "},{"image":"i"},{"name":"A_b","image":"i"}]"#,
        &[
            "spec.containers[0].image: Required value",
            "spec.containers[1].name: Duplicate value: \"c\"",
            "spec.containers[2].name: Required value",
            "spec.containers[3].name: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.containers[1].image: Invalid value: \" i \": must not have leading or trailing whitespace",
        ],
    );
    check(
        r#""restartPolicy":"Sometimes","dnsPolicy":"x""#,
        &[
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.dnsPolicy: Unsupported value: \"x\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
        ],
    );
}

#[test]
fn ports_are_numbers_with_unique_names() {
    check_container(
        r#""ports":[{"name":"a","containerPort":0},{"name":"a","containerPort":70000,"protocol":"X"}]"#,
        &[
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ],
    );
    check_container(
        r#""ports":[{"containerPort":80,"hostPort":80},{"containerPort":81,"hostPort":80}]"#,
        &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""],
    );
}

#[test]
fn variables_have_one_source() {
    check_container(
        r#""env":[{"name":"","value":"a"},{"name":"a=b"},{"name":"A","valueFrom":{}},
            {"name":"B","value":"x","valueFrom":{"fieldRef":{"fieldPath":"status.hostIP"}}},
            {"name":"C","valueFrom":{"fieldRef":{"fieldPath":"status.phase"}}},
            {"name":"D","valueFrom":{"fieldRef":{"fieldPath":"spec.foo"}}},
            {"name":"E","valueFrom":{"resourceFieldRef":{"resource":"limits.gpu"}}}],"envFrom":[{}]"#,
        &[
            "spec.containers[0].env[0].name: Required value",
            "spec.containers[0].env[1].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            "spec.containers[0].env[2].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            "spec.containers[0].env[3].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            "spec.containers[0].env[4].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            "spec.containers[0].env[5].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.foo\": error converting fieldPath: field label not supported: spec.foo",
            "spec.containers[0].env[6].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
            "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ],
    );
}

#[test]
fn mounts_name_volumes_of_the_pod() {
    check_container(
        r#""volumeMounts":[{"name":"absent","mountPath":"/a"},{"name":"v","mountPath":"/a","subPath":"../x"},
            {"name":"v","mountPath":"","mountPropagation":"Bidirectional"}],"volumeDevices":[{"name":"v","devicePath":"/d"}]"#,
        &[
            "spec.containers[0].volumeMounts[0].name: Not found: \"absent\"",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
            "spec.containers[0].volumeMounts[1].name: Invalid value: \"v\": must not already exist in volumeDevices",
            "spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
            "spec.containers[0].volumeMounts[2].mountPath: Required value",
            "spec.containers[0].volumeMounts[2].name: Invalid value: \"v\": must not already exist in volumeDevices",
            "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            "spec.containers[0].volumeDevices[0].name: Invalid value: \"v\": must not already exist in volumeMounts",
        ],
    );
    check(
        r#""volumes":[{"name":"a","emptyDir":{},"hostPath":{"path":"/x"}},{"name":"a","hostPath":{"path":""}},
            {"name":"","secret":{"secretName":""}},{"name":"b","configMap":{"name":"m","defaultMode":1000,
            "items":[{"key":"k","path":"/x"}]}}]"#,
        &[
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[1].hostPath.path: Required value",
            "spec.volumes[2].secret.secretName: Required value",
            "spec.volumes[2].name: Required value",
            "spec.volumes[3].configMap.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
            "spec.volumes[3].configMap.items[0].path: Invalid value: \"/x\": must be a relative path",
        ],
    );
}

#[test]
fn resources_are_known_and_requests_within_limits() {
    check_container(
        r#""resources":{"limits":{"cpu":"1","hugepages-2Mi":"3Mi","foo":"1","example.com/x":"1500m"},"requests":{"cpu":"2","memory":"-1","hugepages-2Mi":"3Mi","foo":"1","example.com/x":"1500m"}}"#,
        &[
            "spec.containers[0].resources.limits[example.com/x]: Invalid value: \"1500m\": must be an integer",
            "spec.containers[0].resources.limits[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.limits[foo]: Invalid value: \"foo\": must be a standard resource for containers",
            "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.containers[0].resources.requests[example.com/x]: Invalid value: \"1500m\": must be an integer",
            "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource for containers",
            "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
        ],
    );
    check_container(
        r#""resources":{"requests":{"example.com/x":"1"}}"#,
        &[
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ],
    );
}

#[test]
fn probes_have_one_handler_and_sane_thresholds() {
    check_container(
        r#""livenessProbe":{"successThreshold":2,"httpGet":{"port":0,"scheme":"FTP"}},"readinessProbe":{},
            "startupProbe":{"exec":{"command":["x"]},"tcpSocket":{"port":"A"},"periodSeconds":-1},
            "lifecycle":{"preStop":{"sleep":{"seconds":31}}}"#,
        &[
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
            "spec.containers[0].startupProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
            "spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
}

#[test]
fn init_containers_have_no_probes_unless_they_are_sidecars() {
    check(
        r#""initContainers":[{"name":"c","image":"i","readinessProbe":{"exec":{"command":["x"]}},"restartPolicy":"Foo"}]"#,
        &[
            "spec.initContainers[0].restartPolicy: Unsupported value: \"Foo\": supported values: \"Always\", \"Never\", \"OnFailure\"",
            "spec.initContainers[0].name: Duplicate value: \"c\"",
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
}

#[test]
fn security_contexts_do_not_contradict_themselves() {
    check_container(
        r#""securityContext":{"runAsUser":-1,"privileged":true,"allowPrivilegeEscalation":false,"procMount":"Unmasked",
            "seccompProfile":{"type":"Localhost"}}"#,
        &[
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            r#"spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true,"procMount":"Unmasked","runAsUser":-1,"seccompProfile":{"type":"Localhost"}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#,
        ],
    );
    check(
        r#""hostNetwork":true,"hostUsers":false,"securityContext":{"sysctls":[{"name":"net.core.somaxconn","value":"1"},{"name":"A","value":""}]}"#,
        &[
            "spec.securityContext.sysctls[0].name: Invalid value: \"net.core.somaxconn\": may not be specified when 'hostNetwork' is true",
            "spec.securityContext.sysctls[1].name: Invalid value: \"A\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            "spec.hostNetwork: Forbidden: when `hostUsers` is false",
        ],
    );
}

#[test]
fn scheduling_rules_are_well_formed() {
    check(
        r#""tolerations":[{"key":"a","operator":"Exists","value":"x"},{"value":"x"},{"key":"a","tolerationSeconds":1,"effect":"Foo"}],
        "affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"a","operator":"In"}]}]}},
            "podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"labelSelector":{}}]}},
        "topologySpreadConstraints":[{"maxSkew":0,"topologyKey":"z","whenUnsatisfiable":"Maybe"}],
        "schedulingGates":[{"name":"a"},{"name":"a"}]"#,
        &[
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must be non-empty",
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "spec.schedulingGates[1]: Duplicate value: \"a\"",
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Maybe\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
            "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
            "spec.tolerations[1].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            "spec.tolerations[2].effect: Invalid value: \"Foo\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            "spec.tolerations[2].effect: Unsupported value: \"Foo\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
}

fn check_update(old: &str, new: &str, expected: &[&str]) {
    let causes = (strategy("", "Pod").validate_update)(&pod(new), &pod(old));
    assert_eq!(lines(&causes), expected, "{old} → {new}");
}

#[test]
fn an_update_changes_images_deadlines_and_adds_tolerations_only() {
    let container = |image: &str| format!(r#""containers":[{{"name":"c","image":"{image}"}}]"#);
    check_update(&container("a:1"), &container("b:1"), &[]);
    check_update(
        "",
        r#""containers":[{"name":"c","image":"i:1"},{"name":"d","image":"i:1"}]"#,
        &["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
    check_update(
        r#""activeDeadlineSeconds":10"#,
        r#""activeDeadlineSeconds":5"#,
        &[],
    );
    check_update(
        r#""activeDeadlineSeconds":10"#,
        r#""activeDeadlineSeconds":11"#,
        &["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"],
    );
    let toleration = r#""tolerations":[{"key":"a","operator":"Exists"}]"#;
    check_update("", toleration, &[]);
    check_update(
        toleration,
        "",
        &[
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ],
    );
    let gate = r#""schedulingGates":[{"name":"g"}]"#;
    check_update(gate, "", &[]);
    check_update(
        "",
        gate,
        &[
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
        ],
    );
    check_update(
        gate,
        r#""schedulingGates":[{"name":"g"}],"nodeSelector":{"a":"b"}"#,
        &[],
    );
}

#[test]
fn any_other_change_is_refused_with_the_difference() {
    let causes = (strategy("", "Pod").validate_update)(&pod(r#""hostname":"b""#), &pod(r#""hostname":"a""#));
    assert_eq!(causes.len(), 1);
    let expected = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n@@ -10,7 +10,7 @@\n  ],\n  \"dnsPolicy\": \"ClusterFirst\",\n  \"enableServiceLinks\": true,\n- \"hostname\": \"a\",\n+ \"hostname\": \"b\",\n  \"restartPolicy\": \"Always\",\n  \"schedulerName\": \"default-scheduler\",\n  \"securityContext\": {},\n";
    assert_eq!(causes[0].message, expected);
    assert_eq!(causes[0].field, "spec");
}

#[test]
fn a_status_keeps_what_it_may_not_change() {
    let check = |old: &str, new: &str, expected: &[&str]| {
        let of = |status: &str| {
            let mut pod = pod(r#""restartPolicy":"Never""#);
            pod.set_at(&["status"], tree(&format!("{{{status}}}")));
            pod
        };
        let causes = (strategy("", "Pod").validate_status_update)(&of(new), &of(old));
        assert_eq!(lines(&causes), expected, "{old} → {new}");
    };
    check(
        r#""qosClass":"BestEffort""#,
        r#""qosClass":"Burstable""#,
        &["status.qosClass: Invalid value: \"Burstable\": field is immutable"],
    );
    check(
        r#""containerStatuses":[{"name":"c","state":{"terminated":{"exitCode":0}}}]"#,
        r#""containerStatuses":[{"name":"c","state":{"running":{}}}]"#,
        &["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"],
    );
    check(
        "",
        r#""podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.2"}]"#,
        &["status.podIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `podIP`"],
    );
    check(
        "",
        r#""phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}]"#,
        &[],
    );
}

#[test]
fn templates_are_judged_under_their_own_path() {
    let mut template = tree(
        r#"{"metadata":{"name":"t"},"template":{"metadata":{"labels":{"a":"b c"}},"spec":{"containers":[{"name":"c"}]}}}"#,
    );
    let strategy = strategy("", "PodTemplate");
    (strategy.default)(&mut template);
    let found = lines(&(strategy.validate_create)(&template));
    assert!(
        found[0].starts_with("template.labels: Invalid value: \"b c\""),
        "{found:?}"
    );
    assert_eq!(found[1..], ["template.spec.containers[0].image: Required value"]);
}
