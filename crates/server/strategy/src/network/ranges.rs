//! Validation of ServiceCIDRs and IPAddresses.
//!
//! Source: `pkg/apis/networking/validation/validation.go`.

use cloudeck_machinery::{Cause, Value, names};

use crate::check::{At, Faults, IMMUTABLE, list, text};

const SPEC: At<'static> = At::root("spec");

pub(crate) fn service_range(range: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    ranges(range, &mut faults);
    faults.into_causes()
}

fn ranges(range: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let (at, spec) = (SPEC.field("cidrs"), range.get("spec").unwrap_or(&none));
    let all: Vec<&str> = list(spec, "cidrs").iter().filter_map(Value::as_str).collect();
    if all.is_empty() {
        return faults.required(&at, "at least one CIDR required");
    }
    if all.len() > 2 {
        return faults.invalid(&at, spec, "may only hold up to 2 values");
    }
    for (i, one) in all.iter().enumerate() {
        faults.all_invalid(&at.index(i), *one, names::cidr(one));
    }
    let sound = all.iter().all(|one| names::cidr_legacy(one).is_empty());
    if let [one, other] = all.as_slice()
        && sound
        && one.contains(':') == other.contains(':')
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        faults.invalid(&at, spec.get("cidrs").unwrap_or(&none), why);
    }
}

/// A range stays; one of the other family may join it.
pub(crate) fn service_range_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let at = SPEC.field("cidrs");
    let [own, before] = [new, old].map(|range| range.items_at(&["spec", "cidrs"]));
    match (before.len(), own.len()) {
        (many, as_many) if many == as_many => {
            for (i, (own, before)) in own.iter().zip(before).enumerate() {
                if own != before {
                    faults.invalid(&at.index(i), own, IMMUTABLE);
                }
            }
        }
        (1, 2) => {
            if own[0] != before[0] {
                faults.invalid(&at.index(0), &own[0], IMMUTABLE);
            }
            ranges(new, &mut faults);
        }
        _ => faults.invalid(&at, new.at(&["spec", "cidrs"]).unwrap_or(&Value::Null), IMMUTABLE),
    }
    faults.into_causes()
}

pub(crate) fn address(address: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let at = SPEC.field("parentRef");
    let Some(parent) = address
        .at(&["spec", "parentRef"])
        .filter(|parent| !parent.is_null())
    else {
        faults.required(&at, "");
        return faults.into_causes();
    };
    let group = text(parent, "group");
    if !group.is_empty() {
        faults.all_invalid(&at.field("group"), group, names::dns1123_subdomain(group));
    }
    for (field, is_required) in [("resource", true), ("name", true), ("namespace", false)] {
        let own = text(parent, field);
        if !own.is_empty() {
            faults.all_invalid(&at.field(field), own, names::path_segment(own));
        } else if is_required {
            faults.required(&at.field(field), "");
        }
    }
    faults.into_causes()
}

pub(crate) fn address_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = address(new);
    let mut faults = Faults::default();
    let [own, before] = [new, old].map(|address| address.at(&["spec", "parentRef"]));
    faults.immutable(&SPEC.field("parentRef"), own, before);
    causes.extend(faults.into_causes());
    causes
}

#[cfg(test)]
mod tests {
    use crate::expect::{check_create, check_update};

    const GROUP: &str = "networking.k8s.io";

    #[test]
    fn a_service_range_has_one_range_of_a_family() {
        let check = |ranges: &str, expected: &[&str]| {
            let text = format!(r#"{{"metadata":{{"name":"r"}},"spec":{{"cidrs":{ranges}}}}}"#);
            check_create(GROUP, "ServiceCIDR", &text, expected);
        };
        check(r#"["10.0.0.0/24"]"#, &[]);
        check(r#"["10.0.0.0/24","2001:db8::/64"]"#, &[]);
        check("[]", &["spec.cidrs: Required value: at least one CIDR required"]);
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        let two = format!(r#"spec.cidrs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: {why}"#);
        check(r#"["10.0.0.0/24","10.0.1.0/24"]"#, &[&two]);
        let bits =
            r#"spec.cidrs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length"#;
        check(r#"["10.0.0.1/24"]"#, &[bits]);
    }

    #[test]
    fn a_service_range_stays() {
        let check = |old: &str, new: &str, expected: &[&str]| {
            let [old, new] = [old, new].map(|ranges| format!(r#"{{"spec":{{"cidrs":{ranges}}}}}"#));
            check_update(GROUP, "ServiceCIDR", &old, &new, expected);
        };
        check(r#"["10.0.0.0/24"]"#, r#"["10.0.0.0/24","2001:db8::/64"]"#, &[]);
        let other = r#"spec.cidrs[0]: Invalid value: "10.0.1.0/24": field is immutable"#;
        check(r#"["10.0.0.0/24"]"#, r#"["10.0.1.0/24"]"#, &[other]);
        let gone = "spec.cidrs: Invalid value: null: field is immutable";
        check(r#"["10.0.0.0/24"]"#, "null", &[gone]);
    }

    #[test]
    fn an_address_belongs_to_something_and_stays_with_it() {
        let parent = r#"{"spec":{"parentRef":{"group":"g","resource":"r","name":"n"}}}"#;
        check_create(GROUP, "IPAddress", parent, &[]);
        check_create(GROUP, "IPAddress", "{}", &["spec.parentRef: Required value"]);
        check_create(
            GROUP,
            "IPAddress",
            r#"{"spec":{"parentRef":{"group":"G","name":"a/b"}}}"#,
            &[
                r#"spec.parentRef.group: Invalid value: "G": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
                "spec.parentRef.resource: Required value",
                r#"spec.parentRef.name: Invalid value: "a/b": may not contain '/'"#,
            ],
        );
        let other = parent.replace("\"n\"", "\"m\"");
        let why =
            r#"spec.parentRef: Invalid value: {"group":"g","name":"m","resource":"r"}: field is immutable"#;
        check_update(GROUP, "IPAddress", parent, &other, &[why]);
    }
}
