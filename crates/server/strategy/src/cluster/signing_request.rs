//! Validation of certificate signing requests.
//!
//! Source: `pkg/apis/certificates/validation/validation.go`. The request's signature is checked by the server.

use cloudeck_machinery::{Cause, Value, names};

use crate::check::{At, Faults, given, list, text};

const SPEC: At<'static> = At::root("spec");
const CONDITIONS: At<'static> = At::root("status");
const SHORTEST: i64 = 600;

/// Sorted as upstream lists them.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(super) fn create(request: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let spec = request.get("spec").unwrap_or(&none);
    let (usages, at) = (list(spec, "usages"), SPEC.field("usages"));
    if usages.is_empty() {
        faults.required(&at, "");
    }
    let usages: Vec<&str> = usages.iter().filter_map(Value::as_str).collect();
    for (i, usage) in usages.iter().enumerate() {
        if !USAGES.contains(usage) {
            faults.not_supported(&at.index(i), *usage, &USAGES);
        }
    }
    for (i, usage) in usages.iter().enumerate() {
        if usages[..i].contains(usage) {
            faults.duplicate(&at.index(i), *usage);
        }
    }
    signer(text(spec, "signerName"), &SPEC.field("signerName"), &mut faults);
    if let Some(seconds) = given(spec, "expirationSeconds").filter(|seconds| *seconds < SHORTEST) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        faults.invalid(&SPEC.field("expirationSeconds"), &seconds, why);
    }
    faults.into_causes()
}

fn signer(name: &str, at: &At<'_>, faults: &mut Faults) {
    if name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        return faults.invalid(at, name, why);
    }
    signer_name(name, at, faults);
}

/// A domain and a path.
///
/// Source: `ValidateSignerName` in `pkg/apis/core/validation`.
pub(crate) fn signer_name(name: &str, at: &At<'_>, faults: &mut Faults) {
    if name.is_empty() {
        return faults.required(at, "");
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return faults.invalid(at, name, why);
    };
    let labels: Vec<&str> = domain.split('.').collect();
    if let Some(bad) = labels
        .iter()
        .find(|label| !names::dns1123_label(label).is_empty())
    {
        for problem in names::dns1123_label(bad) {
            faults.invalid(at, domain, &format!("validating label {bad:?}: {problem}"));
        }
    }
    if labels.len() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        faults.invalid(at, domain, why);
    }
    if let Some(bad) = path
        .split('.')
        .find(|label| !names::dns1123_subdomain(label).is_empty())
    {
        for problem in names::dns1123_subdomain(bad) {
            faults.invalid(at, path, &format!("validating label {bad:?}: {problem}"));
        }
    }
}

/// The conditions, however they come.
pub(super) fn status(new: &Value, _old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let at = CONDITIONS.field("conditions");
    let all = new.items_at(&["status", "conditions"]);
    for (i, condition) in all.iter().enumerate() {
        let (kind, status, place) = (text(condition, "type"), text(condition, "status"), at.index(i));
        if kind.is_empty() {
            faults.required(&place.field("type"), "");
        }
        let only_true = matches!(kind, "Approved" | "Denied" | "Failed");
        let known: &[&str] = if only_true {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        faults.one_of(&place.field("status"), status, known);
        let before = |wanted: &str| all[..i].iter().any(|other| text(other, "type") == wanted);
        if kind == "Approved" && before("Denied") || kind == "Denied" && before("Approved") {
            let why = "Approved and Denied conditions are mutually exclusive";
            faults.invalid(&at, kind, why);
        }
        if before(kind) {
            faults.duplicate(&place.field("type"), kind);
        }
    }
    faults.into_causes()
}

#[cfg(test)]
mod tests {
    use crate::expect::{check_create, check_status};

    #[test]
    fn a_request_names_usages_and_a_signer() {
        let check = |spec: &str, expected: &[&str]| {
            let request = format!(r#"{{"spec":{spec}}}"#);
            check_create(
                "certificates.k8s.io",
                "CertificateSigningRequest",
                &request,
                expected,
            );
        };
        check(
            r#"{"usages":["client auth"],"signerName":"kubernetes.io/kube-apiserver-client"}"#,
            &[],
        );
        check(
            r#"{"signerName":"nobody","expirationSeconds":5}"#,
            &[
                "spec.usages: Required value",
                "spec.signerName: Invalid value: \"nobody\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
                "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)",
            ],
        );
        check(
            r#"{"usages":["signing","signing"],"signerName":"one/a"}"#,
            &[
                "spec.usages[1]: Duplicate value: \"signing\"",
                "spec.signerName: Invalid value: \"one\": should be a domain with at least two segments separated by dots",
            ],
        );
    }

    #[test]
    fn a_request_is_approved_or_denied() {
        check_status(
            "certificates.k8s.io",
            "CertificateSigningRequest",
            "{}",
            r#"{"status":{"conditions":[{"type":"Approved","status":"True"},{"type":"Denied","status":"False"}]}}"#,
            &[
                "status.conditions[1].status: Unsupported value: \"False\": supported values: \"True\"",
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
            ],
        );
    }
}
