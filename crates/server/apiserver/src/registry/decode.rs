//! Bodies to normalised trees, with upstream's complaints.

use cloudeck_client::{Body, ContentType};
use cloudeck_machinery::object::split_api_version;
use cloudeck_machinery::{Reason, Status, Value, json, yaml};
use cloudeck_schema::TypeRef;

use super::Call;

/// Strict decoding complains of no more.
const MOST_COMPLAINTS: usize = 100;

/// The group, version and kind that a body is expected to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) ty: TypeRef,
}

/// The request's object in the view's form: fields checked as `fieldValidation` says, normalised, not yet defaulted.
pub(crate) fn object(call: &mut Call<'_>) -> Result<Value, Status> {
    let view = call.view;
    let expected = Expected {
        api_version: &view.api_version,
        kind: view.kind_name(),
        ty: view.ty,
    };
    let mut duplicates = Vec::new();
    let body = &call.request.body;
    let mut tree = parse(body, expected, &mut duplicates)?;
    check_type(&mut tree, expected)?;
    refine(call, &mut tree, expected, duplicates)?;
    Ok(tree)
}

/// A body of any expected kind, without complaints about unknown fields: reviews, options.
pub(crate) fn lenient(body: &Body, expected: Expected<'_>) -> Result<Value, Status> {
    lenient_tree(parse(body, expected, &mut Vec::new())?, expected)
}

/// As [`lenient`], of a tree.
pub(crate) fn lenient_tree(mut tree: Value, expected: Expected<'_>) -> Result<Value, Status> {
    check_type(&mut tree, expected)?;
    normalise(&mut tree, expected)?;
    Ok(tree)
}

/// Reports unknown and duplicate fields and brings the tree into Go's form.
pub(crate) fn refine(
    call: &mut Call<'_>,
    tree: &mut Value,
    expected: Expected<'_>,
    duplicates: Vec<String>,
) -> Result<(), Status> {
    let found = complaints(tree, expected, &duplicates);
    report(call, expected, found)?;
    keep_reset(tree);
    normalise(tree, expected)
}

/// An empty list of managedFields is an order to forget them, as is one of an empty entry, which outlives normalising.
fn keep_reset(tree: &mut Value) {
    let path = ["metadata", "managedFields"];
    if let Some(Value::Array(entries)) = tree.at(&path)
        && entries.is_empty()
    {
        tree.set_at(&path, vec![Value::object()]);
    }
}

/// What strict decoding would complain of; `duplicates` come from [`parse`].
pub(crate) fn complaints(tree: &Value, expected: Expected<'_>, duplicates: &[String]) -> Vec<String> {
    let unknown = cloudeck_schema::unknown_fields(expected.ty, tree);
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    unknown
        .chain(duplicates.iter().cloned())
        .take(MOST_COMPLAINTS)
        .collect()
}

/// Refuses, warns or stays silent, as `fieldValidation` says.
pub(crate) fn report(
    call: &mut Call<'_>,
    expected: Expected<'_>,
    complaints: Vec<String>,
) -> Result<(), Status> {
    match call.request.params.field_validation.as_str() {
        "Ignore" => Ok(()),
        "Strict" if !complaints.is_empty() => Err(unhandled(
            expected,
            &format!("strict decoding error: {}", complaints.join(", ")),
        )),
        _ => {
            for complaint in complaints {
                call.warn(complaint);
            }
            Ok(())
        }
    }
}

pub(crate) fn normalise(tree: &mut Value, expected: Expected<'_>) -> Result<(), Status> {
    cloudeck_schema::normalise(expected.ty, tree).map_err(|errors| {
        let why = errors.first().map(ToString::to_string).unwrap_or_default();
        unhandled(expected, &why)
    })
}

fn unhandled(expected: Expected<'_>, why: &str) -> Status {
    let Expected {
        kind, api_version, ..
    } = expected;
    let (_, version) = split_api_version(api_version);
    Status::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
    ))
}

/// A body's tree. Appends a complaint for every repeated key.
pub(crate) fn parse(
    body: &Body,
    expected: Expected<'_>,
    duplicates: &mut Vec<String>,
) -> Result<Value, Status> {
    let unrecognised = |why: String| {
        let kind = expected.kind;
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: {why}"
        ))
    };
    match body.content_type {
        ContentType::Yaml | ContentType::ApplyPatch if !looks_like_json(&body.bytes) => {
            let mut lines = Vec::new();
            let tree = yaml::parse_reporting(&body.bytes, &mut lines)
                .map_err(|error| unrecognised(error.to_string()))?;
            duplicates.extend(
                lines
                    .iter()
                    .map(|line| format!("yaml: unmarshal errors:\n  {line}")),
            );
            Ok(tree)
        }
        ContentType::Protobuf => {
            let (meta, mut tree) = cloudeck_schema::protobuf::decode_envelope(&body.bytes)
                .map_err(|error| Status::bad_request(error.to_string()))?;
            tree.set_at(&["apiVersion"], meta.api_version.as_str());
            tree.set_at(&["kind"], meta.kind.as_str());
            Ok(tree)
        }
        _ => parse_json(&body.bytes, duplicates).map_err(|error| unrecognised(error.to_string())),
    }
}

/// JSON. Appends a complaint for every repeated key.
pub(crate) fn parse_json(bytes: &[u8], duplicates: &mut Vec<String>) -> Result<Value, json::JsonError> {
    let mut paths = Vec::new();
    let tree = json::parse_reporting(bytes, &mut paths)?;
    duplicates.extend(paths.iter().map(|path| format!("duplicate field {path:?}")));
    Ok(tree)
}

pub(crate) fn looks_like_json(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Fills in kind and apiVersion when absent and refuses others than expected.
pub(crate) fn check_type(tree: &mut Value, expected: Expected<'_>) -> Result<(), Status> {
    if tree.as_object().is_none() {
        return Err(unhandled(
            expected,
            &format!("json: cannot unmarshal {} into Go value", tree.type_name()),
        ));
    }
    let text = |key: &str| tree.str_at(&[key]).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if !api_version.is_empty() && api_version != expected.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version
        )));
    }
    if !kind.is_empty() && kind != expected.kind {
        let (_, version) = split_api_version(expected.api_version);
        return Err(Status::new(
            Reason::BadRequest,
            format!(
                "{kind} in version {version:?} cannot be handled as a {}: unexpected kind",
                expected.kind
            ),
        ));
    }
    tree.set_at(&["apiVersion"], expected.api_version);
    tree.set_at(&["kind"], expected.kind);
    Ok(())
}
