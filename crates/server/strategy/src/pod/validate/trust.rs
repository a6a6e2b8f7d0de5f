//! What a projected volume asks of signers: certificates for the pod, and the bundles that others are judged by.
//!
//! Source: `validateProjectionSources` in `pkg/apis/core/validation/validation.go`.

use cloudeck_machinery::{Value, names};

use super::volumes::{take, unreserved_path};
use crate::check::{At, Faults, given, present, text};
use crate::cluster::signer_name;

const SHORTEST: i64 = 3600;
const LONGEST: i64 = 91 * 24 * 60 * 60;
/// Of the cluster's own signers.
const LONGEST_OF_OURS: i64 = 24 * 60 * 60;
const KEY_TYPES: [&str; 6] = [
    "RSA3072",
    "RSA4096",
    "ECDSAP256",
    "ECDSAP384",
    "ECDSAP521",
    "ED25519",
];

pub(super) fn certificate<'a>(
    own: &'a Value,
    volume: &At<'_>,
    at: &At<'_>,
    taken: &mut Vec<&'a str>,
    faults: &mut Faults,
) {
    let signer = text(own, "signerName");
    signer_name(signer, &at.field("signerName"), faults);
    let key_type = text(own, "keyType");
    if !KEY_TYPES.contains(&key_type) {
        faults.not_supported(&at.field("keyType"), key_type, &KEY_TYPES);
    }
    if let Some(seconds) = given(own, "maxExpirationSeconds") {
        let path = at.field("maxExpirationSeconds");
        let host = signer.split('/').next().unwrap_or_default();
        let ours = host == "kubernetes.io" || host.ends_with(".kubernetes.io");
        let longest = if ours { LONGEST_OF_OURS } else { LONGEST };
        if seconds < SHORTEST {
            let why = format!("if provided, maxExpirationSeconds must be >= {SHORTEST}");
            faults.invalid(&path, &seconds, &why);
        }
        if seconds > longest {
            let why = format!("if provided, maxExpirationSeconds must be <= {longest}");
            faults.invalid(&path, &seconds, &why);
        }
    }
    let mut none = true;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let target = text(own, field);
        if !target.is_empty() {
            none = false;
            unreserved_path(target, &at.field(field), faults);
            take(target, target, volume, taken, faults);
        }
    }
    if none {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        faults.required(at, why);
    }
}

pub(super) fn bundle<'a>(
    own: &'a Value,
    volume: &At<'_>,
    at: &At<'_>,
    taken: &mut Vec<&'a str>,
    faults: &mut Faults,
) {
    match (present(own, "name"), present(own, "signerName")) {
        (Some(_), Some(_)) => {
            faults.invalid_whole(at, "only one of name and signerName may be used");
        }
        (Some(_), None) => {
            let path = at.field("name");
            let name = text(own, "name");
            if name.is_empty() {
                faults.required(&path, "must be a valid object name");
            }
            // What stands in front of the last colon is the signer, whatever it is called.
            let rest = name.rsplit_once(':').map_or(name, |(_, rest)| rest);
            for problem in names::dns1123_subdomain(rest) {
                faults.invalid(
                    &path,
                    name,
                    &format!("not a valid clustertrustbundlename: {problem}"),
                );
            }
            if present(own, "labelSelector").is_some() {
                let why = "labelSelector must be unset if name is specified";
                faults.invalid_whole(&at.field("labelSelector"), why);
            }
        }
        (None, Some(_)) => {
            let path = at.field("signerName");
            let signer = text(own, "signerName");
            if signer.is_empty() {
                faults.required(&path, "must be a valid signer name");
            }
            signer_name(signer, &path, faults);
            faults.label_selector(&at.field("labelSelector"), present(own, "labelSelector"));
        }
        (None, None) => faults.required(at, "either name or signerName must be specified"),
    }
    let (target, path) = (text(own, "path"), at.field("path"));
    if target.is_empty() {
        faults.required(&path, "");
    }
    unreserved_path(target, &path, faults);
    take(target, target, volume, taken, faults);
}
