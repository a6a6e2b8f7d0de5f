//! What a write may say about itself besides its object: `dryRun`, `fieldManager`, `fieldValidation`, `force`.
//!
//! Source: `k8s.io/apimachinery/pkg/apis/meta/v1/validation`.

use cloudeck_client::{ContentType, Request, Verb};
use cloudeck_machinery::{Cause, CauseType, Status, Value};

/// The longest name of a field manager.
const LONGEST_MANAGER: usize = 128;

/// Refuses the parameters of a create, update or patch that upstream refuses.
///
/// # Errors
/// 422 with one cause per parameter.
pub(crate) fn check(request: &Request) -> Result<(), Status> {
    let kind = match request.verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        _ => return Ok(()),
    };
    let params = &request.params;
    let mut causes = Vec::new();
    if request.verb == Verb::Patch {
        causes.extend(apply_only(request));
    }
    causes.extend(manager(&params.field_manager));
    causes.extend(dry_run(&params.dry_run));
    if !matches!(
        params.field_validation.as_str(),
        "" | "Ignore" | "Warn" | "Strict"
    ) {
        let given = Value::from(params.field_validation.as_str());
        causes.push(not_supported(
            "fieldValidation",
            &given,
            &["", "Ignore", "Strict", "Warn"],
        ));
    }
    refuse(kind, causes)
}

fn apply_only(request: &Request) -> Option<Cause> {
    let applies = request.body.content_type == ContentType::ApplyPatch;
    let (cause, message, field) = if applies && request.params.field_manager.is_empty() {
        let message = "Required value: is required for apply patch";
        (CauseType::Required, message, "fieldManager")
    } else if !applies && request.params.force.is_some() {
        let message = "Forbidden: may not be specified for non-apply patch";
        (CauseType::Forbidden, message, "force")
    } else {
        return None;
    };
    Some(Cause {
        cause,
        message: message.to_owned(),
        field: field.to_owned(),
    })
}

fn manager(name: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut add = |cause, message| {
        causes.push(Cause {
            cause,
            message,
            field: "fieldManager".into(),
        });
    };
    if name.len() > LONGEST_MANAGER {
        let message = format!("Too long: may not be more than {LONGEST_MANAGER} bytes");
        add(CauseType::TooLong, message);
    }
    for (at, letter) in name.char_indices().filter(|(_, letter)| letter.is_control()) {
        let code = u32::from(letter);
        let message = format!(
            "Invalid value: {}: invalid character U+{code:04X} (at position {at})",
            cloudeck_machinery::quote::quote(name)
        );
        add(CauseType::Invalid, message);
    }
    causes
}

/// `["All"]`, or nothing.
pub(super) fn dry_run(values: &[String]) -> Option<Cause> {
    if values.iter().all(|value| value == "All") {
        return None;
    }
    let given = Value::from(
        values
            .iter()
            .map(|value| Value::from(value.as_str()))
            .collect::<Vec<_>>(),
    );
    Some(not_supported("dryRun", &given, &["All"]))
}

/// A value outside a closed set, in upstream's words.
pub(super) fn not_supported(field: &str, value: &Value, supported: &[&str]) -> Cause {
    let quoted: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
    Cause {
        cause: CauseType::NotSupported,
        message: format!(
            "Unsupported value: {value}: supported values: {}",
            quoted.join(", ")
        ),
        field: field.to_owned(),
    }
}

pub(super) fn refuse(kind: &str, causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid("meta.k8s.io", kind, "", causes))
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_client::{Body, Params};
    use cloudeck_machinery::GroupVersionResource;

    use super::*;

    fn check_params(params: Params, expected: &str) {
        let maps = GroupVersionResource::new("", "v1", "configmaps");
        let request = Request::create(&maps, "default", Body::empty()).with_params(params);
        let message = check(&request).map_or_else(|status| status.message, |()| String::new());
        assert_eq!(message, expected);
    }

    #[test]
    fn only_dry_runs_of_everything_are_known() {
        let dry_run = |values: &[&str]| Params {
            dry_run: values.iter().map(ToString::to_string).collect(),
            ..Params::default()
        };
        check_params(dry_run(&[]), "");
        check_params(dry_run(&["All", "All"]), "");
        let refused = "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"All\",\"Some\"]: supported values: \"All\"";
        check_params(dry_run(&["All", "Some"]), refused);
    }

    #[test]
    fn managers_are_short_and_can_be_printed() {
        let manager = |name: &str| Params {
            field_manager: name.to_owned(),
            ..Params::default()
        };
        check_params(manager("kubectl-edit"), "");
        let head = "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager:";
        let refused = format!("{head} Too long: may not be more than 128 bytes");
        check_params(manager(&"x".repeat(129)), &refused);
        let refused = format!("{head} Invalid value: \"a\\a\": invalid character U+0007 (at position 1)");
        check_params(manager("a\u{7}"), &refused);
    }

    #[test]
    fn field_validation_is_one_of_three() {
        let params = Params {
            field_validation: "Loose".into(),
            ..Params::default()
        };
        let refused = "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Loose\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
        check_params(params, refused);
    }
}
