use super::*;

fn fine(rule: fn(&str) -> Vec<String>, values: &[&str]) {
    for value in values {
        assert_eq!(rule(value), Vec::<String>::new(), "{value:?}");
    }
}

fn wrong(rule: fn(&str) -> Vec<String>, value: &str, message: &str) {
    let problems = rule(value);
    assert!(
        problems.iter().any(|problem| problem == message),
        "{value:?}: {problems:?}"
    );
}

#[test]
fn dns_names_follow_their_grammars() {
    fine(
        dns1123_label,
        &["a", "0", "a1", "a-1", "1--a--b--2", &"a".repeat(63)],
    );
    for value in ["", "A", "-", "a-", "-a", ".", "a_b", " a", "a ", "ü", "a\n"] {
        assert!(!dns1123_label(value).is_empty(), "{value:?}");
    }
    wrong(dns1123_label, "a.b", "must not contain dots");
    wrong(
        dns1123_label,
        &"a".repeat(64),
        "must be no more than 63 characters",
    );
    wrong(
        dns1123_label,
        "A",
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    );
    fine(dns1123_subdomain, &["a", "a.b", "0.1.a-b.c", "foo.example.com"]);
    for value in ["", "a..b", ".a", "a.", "a.-b", "A.b", "a/b"] {
        assert!(!dns1123_subdomain(value).is_empty(), "{value:?}");
    }
    fine(dns1035_label, &["a", "a1", "my-svc"]);
    assert!(!dns1035_label("1a").is_empty());
    fine(dns1123_subdomain_with_underscore, &["_a.b", "a_b"]);
    assert!(!dns1123_subdomain_with_underscore("__a").is_empty());
    fine(wildcard_subdomain, &["*.bar.com"]);
    assert!(!wildcard_subdomain("*.*.bar.com").is_empty());
}

#[test]
fn labels_keys_and_values_are_told_apart() {
    fine(
        qualified_name,
        &[
            "simple",
            "now-with-dashes",
            "1.2.3.4/5678",
            "Uppercase_Is_OK_123",
            "example.com/Uppercase_Is_OK_123",
        ],
    );
    wrong(qualified_name, "", "name part must be non-empty");
    wrong(qualified_name, "/a", "prefix part must be non-empty");
    wrong(
        qualified_name,
        &"a".repeat(64),
        "name part must be no more than 63 bytes",
    );
    assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
    fine(label_value, &["", "a", "A.b_c-1"]);
    wrong(label_value, &"a".repeat(64), "must be no more than 63 bytes");
    assert!(!label_value("-a").is_empty());
    fine(annotation_key, &["Example.COM/a"]);
}

#[test]
fn ports_variables_and_keys_have_upstreams_words() {
    fine(port_name, &["telnet", "http-2", "a"]);
    wrong(port_name, "80", "must contain at least one letter (a-z)");
    wrong(port_name, "a--b", "must not contain consecutive hyphens");
    wrong(port_name, "-a", "must not begin or end with a hyphen");
    wrong(
        port_name,
        "",
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    wrong(
        port_name,
        "toolongtobeaport",
        "must be no more than 15 characters",
    );
    assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    fine(env_var_name, &["A", "my.env-name", "_"]);
    wrong(env_var_name, "..", "must not be '..'");
    assert!(!env_var_name("1A").is_empty());
    fine(relaxed_env_var_name, &["1A", "a b", "-"]);
    assert!(!relaxed_env_var_name("a=b").is_empty() && !relaxed_env_var_name("").is_empty());
    fine(config_map_key, &["a", "good", "a.b_c-1", ".a"]);
    wrong(config_map_key, "..a", "must not start with '..'");
    fine(c_identifier, &["_a1", "A"]);
    fine(percent, &["0%", "100%"]);
    assert!(!percent("%").is_empty() && !percent("1").is_empty());
    fine(path_segment, &["a:b", "", "A B"]);
    assert_eq!(
        path_segment("a/b%"),
        ["may not contain '/'", "may not contain '%'"]
    );
}

#[test]
fn addresses_are_strict_for_new_fields_and_loose_for_old() {
    fine(ip, &["1.2.3.4", "::1", "2001:db8::ffff"]);
    assert_eq!(
        ip("2001:DB8::1"),
        [r#"must be in canonical form ("2001:db8::1")"#]
    );
    fine(ip_legacy, &["2001:DB8::1", "0:0:0:0::1"]);
    assert_eq!(ip_legacy("010.2.3.4"), ["must not have leading 0s"]);
    assert_eq!(
        ip_legacy("::ffff:1.2.3.4"),
        ["must not be an IPv4-mapped IPv6 address"]
    );
    for value in ["", "1.2.3", "1.2.3.256", "fe80::1%eth0", "a"] {
        assert_eq!(
            ip_legacy(value),
            ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
        );
    }
    fine(cidr, &["10.0.0.0/8", "2001:db8::/64", "0.0.0.0/0", "1.2.3.4/32"]);
    assert_eq!(
        cidr("10.0.0.1/8"),
        ["must not have bits set beyond the prefix length"]
    );
    assert_eq!(
        cidr("10.0.0.0/08"),
        ["must not have leading 0s in IP or prefix length"]
    );
    assert_eq!(
        cidr("::ffff:10.0.0.0/104"),
        ["must not have an IPv4-mapped IPv6 address"]
    );
    assert_eq!(
        cidr("2001:DB8::/64"),
        [r#"must be in canonical form ("2001:db8::/64")"#]
    );
    assert_eq!(
        cidr("10.0.0.0/33"),
        ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    );
    fine(interface_address, &["192.168.1.5/24"]);
}

#[test]
fn generated_names_are_judged_without_their_trailing_dash() {
    assert_eq!(generated_name("abc-"), "aba");
    assert_eq!(generated_name("-"), "-");
    assert_eq!(generated_name("abc"), "abc");
}
