use crate::expect::{check_create, check_update};

#[test]
fn endpoints_are_reachable_addresses_with_ports() {
    check_create(
        "",
        "Endpoints",
        r#"{"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]}"#,
        &[],
    );
    check_create(
        "",
        "Endpoints",
        r#"{"subsets":[{},{"addresses":[{"ip":"127.0.0.1"},{"ip":"x"}],"ports":[{"port":80},{"name":"a","port":0}]}]}"#,
        &[
            "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
            "subsets[1].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            "subsets[1].addresses[1].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "subsets[1].addresses[1].ip: Invalid value: \"x\": must be a valid IP address",
            "subsets[1].ports[0].name: Required value",
            "subsets[1].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
}

#[test]
fn slices_hold_addresses_of_their_type() {
    let slice = |kind: &str, rest: &str| format!(r#"{{"addressType":"{kind}",{rest}}}"#);
    let group = "discovery.k8s.io";
    let good = slice(
        "IPv4",
        r#""ports":[{"port":80}],"endpoints":[{"addresses":["10.0.0.1"],"nodeName":"n"}]"#,
    );
    check_create(group, "EndpointSlice", &good, &[]);
    check_create(
        group,
        "EndpointSlice",
        &slice(
            "IPv4",
            r#""ports":[{"port":80},{"port":81}],"endpoints":[{"addresses":[]},{"addresses":["fd00::1"]}]"#,
        ),
        &[
            "ports[1].name: Duplicate value: \"\"",
            "endpoints[0].addresses: Required value: must contain at least 1 address",
            "endpoints[1].addresses: Invalid value: \"fd00::1\": must be an IPv4 address",
        ],
    );
    check_update(
        group,
        "EndpointSlice",
        &good,
        &slice("FQDN", r#""endpoints":[{"addresses":["a.example"]}]"#),
        &["addressType: Invalid value: \"FQDN\": field is immutable"],
    );
    check_create(
        group,
        "EndpointSlice",
        &slice("Foo", r#""endpoints":[]"#),
        &["addressType: Unsupported value: \"Foo\": supported values: \"FQDN\", \"IPv4\", \"IPv6\""],
    );
}
