//! What strings may be: names, labels, ports, paths and addresses, judged in upstream's words.
//!
//! Each function returns what is wrong with its argument, nothing when it is fine; callers wrap the texts into causes
//! (`Invalid value: "x": …`). Sources: `apimachinery/pkg/util/validation`, `pkg/api/validate/content`,
//! `pkg/api/validation`. Upstream words lengths as "bytes" for labels and "characters" elsewhere; so do we.

mod address;

pub use address::{
    cidr, cidr_legacy, cidr_warnings, interface_address, ip, ip_legacy, ip_warnings, parse_ip,
};

/// The longest DNS label.
pub const MAX_LABEL: usize = 63;
/// The longest DNS subdomain.
pub const MAX_SUBDOMAIN: usize = 253;
/// All keys and values of an object's annotations together.
pub const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_UNDERSCORE_FMT: &str =
    r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const SUBDOMAIN_UNDERSCORE_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
const LABEL_KEY_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_MESSAGE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// An RFC 1123 label: most names that become host names, namespaces, container names.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut problems = too_long(value, MAX_LABEL);
    if !is_label(value) {
        if is_subdomain(value) {
            problems.push("must not contain dots".into());
        } else {
            let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            problems.push(regex_error(message, LABEL_FMT, &["my-name", "123-abc"]));
        }
    }
    problems
}

/// An RFC 1123 subdomain: the default for object names.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut problems = too_long(value, MAX_SUBDOMAIN);
    if !is_subdomain(value) {
        problems.push(regex_error(SUBDOMAIN_MESSAGE, SUBDOMAIN_FMT, &["example.com"]));
    }
    problems
}

/// As [`dns1123_subdomain`], with underscores allowed.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut problems = too_long(value, MAX_SUBDOMAIN);
    let fits = value.split('.').all(|label| {
        let label = label.strip_prefix('_').unwrap_or(label);
        bounded_by_alnum(label, is_lower_alnum, |b| {
            is_lower_alnum(b) || matches!(b, b'-' | b'_')
        })
    });
    if !fits {
        problems.push(regex_error(
            SUBDOMAIN_UNDERSCORE_MESSAGE,
            SUBDOMAIN_UNDERSCORE_FMT,
            &["example.com"],
        ));
    }
    problems
}

/// An RFC 1035 label: Service names.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut problems = too_long(value, MAX_LABEL);
    if !is_label(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        problems.push(regex_error(
            message,
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    problems
}

/// `*.example.com`.
pub fn wildcard_subdomain(value: &str) -> Vec<String> {
    let mut problems = too_long(value, MAX_SUBDOMAIN);
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        problems.push(regex_error(
            message,
            &format!(r"\*\.{SUBDOMAIN_FMT}"),
            &["*.example.com"],
        ));
    }
    problems
}

/// The name with what generation will append stood in for, to check a `generateName` by the rule of names.
///
/// Upstream's `maskTrailingDash` also eats the character before the dash; the verdict rests on it, so it is kept.
pub fn generated_name(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(kept) if !kept.is_empty() => {
            let end = kept.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", &kept[..end])
        }
        _ => prefix.to_owned(),
    }
}

/// A qualified name, which is also a label key: `name` or `example.com/name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                problems.extend(prefix_problems(prefix));
            }
            name
        }
        _ => {
            let text = regex_error(LABEL_KEY_MESSAGE, LABEL_KEY_FMT, &examples);
            let tail = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {text} {tail}")];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > MAX_LABEL {
        problems.push(format!("name part {}", max_bytes(MAX_LABEL)));
    }
    if !is_label_text(name) {
        problems.push(format!(
            "name part {}",
            regex_error(LABEL_KEY_MESSAGE, LABEL_KEY_FMT, &examples)
        ));
    }
    problems
}

fn prefix_problems(prefix: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if prefix.len() > MAX_SUBDOMAIN {
        problems.push(format!("prefix part {}", max_bytes(MAX_SUBDOMAIN)));
    }
    if !is_subdomain(prefix) {
        let text = regex_error(SUBDOMAIN_MESSAGE, SUBDOMAIN_FMT, &["example.com"]);
        problems.push(format!("prefix part {text}"));
    }
    problems
}

/// The value of a label; empty is fine.
pub fn label_value(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > MAX_LABEL {
        problems.push(max_bytes(MAX_LABEL));
    }
    if !value.is_empty() && !is_label_text(value) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        let format = format!("({LABEL_KEY_FMT})?");
        problems.push(regex_error(message, &format, &["MyValue", "my_value", "12345"]));
    }
    problems
}

/// The key of an annotation: a qualified name in any case.
pub fn annotation_key(value: &str) -> Vec<String> {
    qualified_name(&value.to_lowercase())
}

/// Whether annotations of so many bytes in all exceed the limit; the cause is `Too long: may not be more than 262144 bytes`.
pub fn annotations_too_long<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    let total: usize = annotations.map(|(key, value)| key.len() + value.len()).sum();
    total > MAX_ANNOTATIONS_BYTES
}

/// The name of a finalizer as every kind takes it; core kinds further demand a slash (see `standard_finalizer`).
pub fn finalizer_name(value: &str) -> Vec<String> {
    qualified_name(value)
}

/// Whether a finalizer without a slash is one of the names that core kinds know.
pub fn standard_finalizer(value: &str) -> bool {
    matches!(value, "kubernetes" | "orphan" | "foregroundDeletion")
}

/// A domain-prefixed path: `acme.io/foo`.
pub fn domain_prefixed_path(value: &str) -> Vec<String> {
    let Some((host, path)) = value
        .split_once('/')
        .filter(|(h, p)| !h.is_empty() && !p.is_empty())
    else {
        return vec![r#"must be a domain-prefixed path (such as "acme.io/foo")"#.into()];
    };
    let mut problems = dns1123_subdomain(host);
    if !path
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b))
    {
        problems.push(regex_error(
            "Invalid path",
            "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+",
            &[],
        ));
    }
    problems
}

/// A C identifier.
pub fn c_identifier(value: &str) -> Vec<String> {
    let fits = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let message = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    unless(fits, || {
        regex_error(
            message,
            "[A-Za-z_][A-Za-z0-9_]*",
            &["my_name", "MY_NAME", "MyName"],
        )
    })
}

/// A port number.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

/// An integer between two bounds, both included.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    unless((low..=high).contains(&value), || {
        format!("must be between {low} and {high}, inclusive")
    })
}

/// A Unix user or group id.
pub fn unix_id(id: i64) -> Vec<String> {
    in_range(id, 0, i32::MAX.into())
}

/// An IANA service name, as ports carry it.
pub fn port_name(value: &str) -> Vec<String> {
    let mut problems = too_long(value, 15);
    if value.is_empty() || !value.bytes().all(|b| is_lower_alnum(b) || b == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

/// `93%`.
pub fn percent(value: &str) -> Vec<String> {
    let digits = value.strip_suffix('%').unwrap_or_default();
    let fits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    unless(fits, || regex_error(message, "[0-9]+%", &["1%", "93%"]))
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    let fits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    unless(fits, || regex_error(message, "[-A-Za-z0-9]+", &["X-Header-Name"]))
}

/// The name of an environment variable, by the strict rule that ConfigMap keys and `envFrom` prefixes meet.
pub fn env_var_name(value: &str) -> Vec<String> {
    let fits = value.starts_with(|c: char| c.is_ascii_alphabetic() || "-._".contains(c))
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let message = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit";
    let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
    let mut problems = unless(fits, || {
        regex_error(message, "[-._a-zA-Z][-._a-zA-Z0-9]*", &examples)
    });
    problems.extend(parent_directory(value));
    problems
}

/// The name of an environment variable as containers may have it since Kubernetes 1.34.
pub fn relaxed_env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    unless(
        value.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'='),
        || {
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .into()
        },
    )
}

/// A key of a ConfigMap's or a Secret's data.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut problems = too_long(value, MAX_SUBDOMAIN);
    if value.is_empty()
        || !value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        problems.push(regex_error(
            message,
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    problems.extend(parent_directory(value));
    problems
}

/// A name that must only be safe as one segment of a path: RBAC roles and the like.
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." => vec!["may not be '.'".into()],
        ".." => vec!["may not be '..'".into()],
        _ => path_segment_prefix(value),
    }
}

/// The same for a name to which something will be appended.
pub fn path_segment_prefix(value: &str) -> Vec<String> {
    ["/", "%"]
        .iter()
        .filter(|part| value.contains(**part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

fn parent_directory(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".into()),
        ".." => Some("must not be '..'".into()),
        _ if value.starts_with("..") => Some("must not start with '..'".into()),
        _ => None,
    }
}

fn unless(fits: bool, problem: impl FnOnce() -> String) -> Vec<String> {
    if fits { Vec::new() } else { vec![problem()] }
}

fn too_long(value: &str, limit: usize) -> Vec<String> {
    unless(value.len() <= limit, || {
        format!("must be no more than {limit} characters")
    })
}

fn max_bytes(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

/// Upstream's explanation of a mismatch with a regular expression.
pub fn regex_error(message: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{format}')");
    }
    let quoted: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!(
        "{message} (e.g. {}regex used for validation is '{format}')",
        quoted.join(" or ")
    )
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(value: &str) -> bool {
    bounded_by_alnum(value, is_lower_alnum, |b| is_lower_alnum(b) || b == b'-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

/// Label keys' name parts and label values.
fn is_label_text(value: &str) -> bool {
    bounded_by_alnum(
        value,
        |b| b.is_ascii_alphanumeric(),
        |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b),
    )
}

fn bounded_by_alnum(value: &str, end: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if end(*first) && end(*last))
        && bytes.iter().all(|b| inner(*b))
}

#[cfg(test)]
mod tests;
