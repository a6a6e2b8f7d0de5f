//! APIServices: which group versions there are, and who answers for them.
//!
//! Source: `k8s.io/kube-aggregator/pkg/{apis/apiregistration/validation,registry/apiservice}`.

use cloudeck_machinery::{Cause, Value, names, value};

use crate::Strategy;
use crate::check::{At, Faults, flag, number, text};
use crate::table::{self, AGE, Column, NAME, TableRow};

pub(crate) const API_SERVICE: Strategy = Strategy {
    prepare_create,
    validate_create: validate,
    validate_update: |new, _| validate(new),
    validate_status_update: |new, _| validate_status(new),
    columns: COLUMNS,
    row,
    ..Strategy::GENERIC
};

/// What this server answers itself is there from the moment it is registered. (Upstream then asks the services of the
/// others; here nobody does, and the object says so.)
fn prepare_create(service: &mut Value) {
    let (word, reason, message) = if is_local(service) {
        ("True", "Local", "Local APIServices are always available")
    } else {
        (
            "False",
            "NotSupported",
            "APIs of other servers are not served by this one yet",
        )
    };
    let at = service
        .str_at(&["metadata", "creationTimestamp"])
        .unwrap_or_default();
    let available = value!({
        "type": "Available", "status": (word), "reason": (reason), "lastTransitionTime": (at), "message": (message)
    });
    service.set_at(&["status", "conditions"], vec![available]);
}

fn is_local(service: &Value) -> bool {
    service.at(&["spec", "service"]).is_none_or(Value::is_null)
}

fn validate(service: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let (at, spec) = (At::root("spec"), service.get("spec").unwrap_or(&none));
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let name = service.str_at(&["metadata", "name"]).unwrap_or_default();
    if names::path_segment(name).is_empty() && name != format!("{version}.{group}") {
        let why = format!("must be `spec.version+\".\"+spec.group`: \"{version}.{group}\"");
        faults.invalid(&At::root("metadata").field("name"), name, &why);
    }
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        faults.required(&at.field("group"), why);
    }
    if !group.is_empty() {
        faults.all_invalid(&at.field("group"), group, names::dns1123_subdomain(group));
    }
    faults.all_invalid(&at.field("version"), version, names::dns1035_label(version));
    for (field, limit) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = number(spec, field);
        if priority <= 0 || priority > limit {
            let why = format!("must be positive and less than {limit}");
            faults.invalid(&at.field(field), &priority, &why);
        }
    }
    let (bundle, insecure) = (
        !text(spec, "caBundle").is_empty(),
        flag(spec, "insecureSkipTLSVerify"),
    );
    if is_local(service) {
        local(bundle, insecure, spec, &at, &mut faults);
    } else {
        elsewhere(spec, &at, &mut faults);
        if insecure && bundle {
            let why = "may not be true if caBundle is present";
            faults.invalid(&at.field("insecureSkipTLSVerify"), &Value::from(true), why);
        }
    }
    faults.into_causes()
}

fn local(bundle: bool, insecure: bool, spec: &Value, at: &At<'_>, faults: &mut Faults) {
    if bundle {
        // Of what base64 spells in four letters there are three bytes.
        let bundle = text(spec, "caBundle");
        let bytes = bundle.len() / 4 * 3 - bundle.bytes().rev().take_while(|byte| *byte == b'=').count();
        let why = "local APIServices may not have a caBundle";
        faults.invalid(&at.field("caBundle"), format!("{bytes} bytes").as_str(), why);
    }
    if insecure {
        let why = "local APIServices may not have insecureSkipTLSVerify";
        faults.invalid(&at.field("insecureSkipTLSVerify"), &Value::from(true), why);
    }
}

fn elsewhere(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let at = at.field("service");
    for field in ["namespace", "name"] {
        if spec.str_at(&["service", field]).unwrap_or_default().is_empty() {
            faults.required(&at.field(field), "");
        }
    }
    let port = spec.int_at(&["service", "port"]).unwrap_or(0);
    let problems = names::port_number(port);
    if !problems.is_empty() {
        let why = format!("port is not valid: {}", problems.join(", "));
        faults.invalid(&at.field("port"), &port, &why);
    }
}

fn validate_status(service: &Value) -> Vec<Cause> {
    const KNOWN: [&str; 3] = ["True", "False", "Unknown"];
    let mut faults = Faults::default();
    let (status, conditions) = (At::root("status"), service.items_at(&["status", "conditions"]));
    let at = status.field("conditions");
    for (i, condition) in conditions.iter().enumerate() {
        let says = text(condition, "status");
        if !KNOWN.contains(&says) {
            faults.not_supported(&at.index(i).field("status"), says, &KNOWN);
        }
    }
    faults.into_causes()
}

const COLUMNS: &[Column] = &[
    NAME,
    table::text("Service", "Who answers: this server, or a service."),
    table::text("Available", "Whether there is somebody who answers."),
    AGE,
];

fn row(service: &Value, row: TableRow<'_>) -> Vec<Value> {
    let of = |name| service.str_at(&["spec", "service", name]).unwrap_or_default();
    let by = if is_local(service) {
        "Local".to_owned()
    } else {
        format!("{}/{}", of("namespace"), of("name"))
    };
    let mut conditions = service.items_at(&["status", "conditions"]).iter();
    let available = conditions.find(|condition| text(condition, "type") == "Available");
    let available = available.map_or_else(
        || "Unknown".to_owned(),
        |condition| match (text(condition, "status"), text(condition, "reason")) {
            (status @ "True", _) | (status, "") => status.to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    );
    vec![
        table::name(service),
        by.into(),
        available.into(),
        table::age(service, row),
    ]
}

#[cfg(test)]
mod tests {
    use crate::expect::{check_create, check_status, tree};
    use crate::table::TableRow;

    const GROUP: &str = "apiregistration.k8s.io";

    #[track_caller]
    fn check(name: &str, spec: &str, expected: &[&str]) {
        let text = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{{spec}}}}}"#);
        check_create(GROUP, "APIService", &text, expected);
    }

    #[test]
    fn the_name_follows_from_version_and_group() {
        let rest = r#""groupPriorityMinimum":100,"versionPriority":15"#;
        check(
            "v1.apps",
            &format!(r#""group":"apps","version":"v1",{rest}"#),
            &[],
        );
        check("v1.", &format!(r#""version":"v1",{rest}"#), &[]);
        check(
            "v2.apps",
            &format!(r#""group":"apps","version":"v1",{rest}"#),
            &[r#"metadata.name: Invalid value: "v2.apps": must be `spec.version+"."+spec.group`: "v1.apps""#],
        );
        check(
            "v2.",
            &format!(r#""version":"v2",{rest}"#),
            &["spec.group: Required value: only v1 may have an empty group and it better be legacy kube"],
        );
    }

    #[test]
    fn priorities_are_bounded_and_who_answers_is_complete() {
        check(
            "v1.a",
            r#""group":"a","version":"v1","groupPriorityMinimum":20001,"service":{"name":"x","port":0},"insecureSkipTLSVerify":true,"caBundle":"eA==""#,
            &[
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
                "spec.service.namespace: Required value",
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
            ],
        );
        check(
            "v1.a",
            r#""group":"a","version":"v1","groupPriorityMinimum":1,"versionPriority":1,"caBundle":"eA==""#,
            &[r#"spec.caBundle: Invalid value: "1 bytes": local APIServices may not have a caBundle"#],
        );
    }

    #[test]
    fn a_status_is_one_of_three() {
        let status = r#"{"status":{"conditions":[{"type":"Available","status":"Maybe"}]}}"#;
        let why = r#"status.conditions[0].status: Unsupported value: "Maybe": supported values: "True", "False", "Unknown""#;
        check_status(GROUP, "APIService", "{}", status, &[why]);
    }

    #[test]
    fn rows_say_who_answers() {
        let strategy = crate::strategy(GROUP, "APIService");
        let cells = |text: &str| {
            let row = TableRow {
                now: 0,
                namespace: "",
            };
            let cells = (strategy.row)(&tree(text), row).into_iter();
            cells
                .map(|cell| cell.as_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        let mut own =
            tree(r#"{"metadata":{"name":"v1.apps","creationTimestamp":"1970-01-01T00:00:00Z"},"spec":{}}"#);
        (strategy.prepare_create)(&mut own);
        let text = String::from_utf8(cloudeck_machinery::json::to_vec(&own)).unwrap();
        assert_eq!(cells(&text), ["v1.apps", "Local", "True", "0s"]);
        let mut other = tree(r#"{"spec":{"service":{"namespace":"a","name":"b"}}}"#);
        (strategy.prepare_create)(&mut other);
        assert_eq!(
            other.items_at(&["status", "conditions"])[0].str_at(&["status"]),
            Some("False")
        );
        let elsewhere = r#"{"metadata":{"name":"v1.x"},"spec":{"service":{"namespace":"a","name":"b"}},
            "status":{"conditions":[{"type":"Available","status":"False","reason":"MissingEndpoints"}]}}"#;
        assert_eq!(cells(elsewhere)[1..3], ["a/b", "False (MissingEndpoints)"]);
        assert_eq!(cells(r#"{"spec":{"service":{"name":"b"}}}"#)[2], "Unknown");
    }
}
