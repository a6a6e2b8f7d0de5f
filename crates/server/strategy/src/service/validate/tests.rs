use crate::expect::{check_create, check_status, check_update};

fn check(spec: &str, expected: &[&str]) {
    check_create("", "Service", &format!(r#"{{"spec":{{{spec}}}}}"#), expected);
}

fn changed(old: &str, new: &str, expected: &[&str]) {
    let of = |spec: &str| format!(r#"{{"spec":{{"ports":[{{"port":80}}],{spec}}}}}"#);
    check_update("", "Service", &of(old), &of(new), expected);
}

#[test]
fn sound_services_of_every_type_have_no_errors() {
    check(
        r#""selector":{"a":"b"},"ports":[{"port":80}],"clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack""#,
        &[],
    );
    check(r#""clusterIP":"None","clusterIPs":["None"]"#, &[]);
    check(r#""type":"ExternalName","externalName":"example.com""#, &[]);
    check(
        r#""type":"NodePort","ports":[{"name":"a","port":80,"nodePort":30080},{"name":"b","port":80,"protocol":"UDP","targetPort":"dns"}]"#,
        &[],
    );
    check(r#""type":"LoadBalancer","ports":[{"port":80}]"#, &[]);
}

#[test]
fn ports_are_named_numbered_and_unique() {
    check("", &["spec.ports: Required value"]);
    check(
        r#""ports":[{"port":0},{"name":"a","port":80},{"name":"a","port":80,"nodePort":30000,"targetPort":"A_b"}]"#,
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[2].name: Duplicate value: \"a\"",
            "spec.ports[2].targetPort: Invalid value: \"A_b\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            "spec.ports[2].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[2]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\"TargetPort\":0,\"NodePort\":0}",
        ],
    );
    check(
        r#""type":"NodePort","ports":[{"name":"a","port":80,"nodePort":30000},{"name":"b","port":81,"nodePort":30000}]"#,
        &["spec.ports[1].nodePort: Duplicate value: 30000"],
    );
}

#[test]
fn types_allow_only_the_fields_that_they_need() {
    check(
        r#""type":"ExternalName","clusterIPs":["10.0.0.1"]"#,
        &[
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
            "spec.externalName: Required value",
        ],
    );
    check(
        r#""type":"Foo","ports":[{"port":80}],"sessionAffinity":"Bar""#,
        &[
            "spec.sessionAffinity: Unsupported value: \"Bar\": supported values: \"ClientIP\", \"None\"",
            "spec.type: Unsupported value: \"Foo\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    check(
        r#""ports":[{"port":80}],"loadBalancerClass":"a/b","allocateLoadBalancerNodePorts":true,"externalTrafficPolicy":"Local""#,
        &[
            "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ],
    );
    check(
        r#""ports":[{"port":80}],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":90000}}"#,
        &[
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 90000: must be greater than 0 and less than 86400",
        ],
    );
}

#[test]
fn addresses_agree_with_each_other_and_the_families() {
    check(
        r#""ports":[{"port":80}],"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.2"],"ipFamilies":["IPv6","Foo"]"#,
        &[
            "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`",
            "spec.ipFamilies[1]: Unsupported value: \"Foo\": supported values: \"IPv4\", \"IPv6\"",
            "spec.clusterIPs[0]: Invalid value: \"10.0.0.2\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ],
    );
    check(
        r#""ports":[{"port":80}],"externalIPs":["127.0.0.1","x"]"#,
        &[
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            "spec.externalIPs[1]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
}

#[test]
fn the_cluster_address_does_not_change() {
    let of = |ip: &str| format!(r#""clusterIP":"{ip}","clusterIPs":["{ip}"]"#);
    changed(&of("10.0.0.1"), &of("10.0.0.1"), &[]);
    changed(
        &of("10.0.0.1"),
        &of("10.0.0.2"),
        &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
    );
    changed(
        &of("10.0.0.1"),
        r#""clusterIP":"""#,
        &["spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset"],
    );
}

#[test]
fn a_change_of_type_drops_what_no_longer_applies() {
    use crate::expect::defaulted;
    let of = |kind: &str| {
        let text = format!(
            r#"{{"spec":{{"type":"{kind}","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{{"port":80,"nodePort":30000}}],"externalTrafficPolicy":"Cluster"}}}}"#
        );
        defaulted("", "Service", &text)
    };
    let (old, mut new) = (of("NodePort"), of("ClusterIP"));
    (crate::strategy("", "Service").prepare_update)(&mut new, &old);
    assert_eq!(new.items_at(&["spec", "ports"])[0].int_at(&["nodePort"]), None);
    assert_eq!(new.at(&["spec", "externalTrafficPolicy"]), None);
    let mut new = of("ExternalName");
    (crate::strategy("", "Service").prepare_update)(&mut new, &old);
    assert_eq!(new.at(&["spec", "clusterIPs"]), None);
}

#[test]
fn only_load_balancers_report_ingress_points() {
    let point = r#""status":{"loadBalancer":{"ingress":[{"ip":"10.0.0.1"}]}}"#;
    check_status(
        "",
        "Service",
        "{}",
        &format!(r#"{{"spec":{{"type":"ClusterIP"}},{point}}}"#),
        &["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"],
    );
    check_status(
        "",
        "Service",
        "{}",
        &format!(r#"{{"spec":{{"type":"LoadBalancer"}},{point}}}"#),
        &["status.loadBalancer.ingress[0].ipMode: Required value: must be specified when `ip` is set"],
    );
}
