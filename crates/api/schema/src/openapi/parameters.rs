//! Parameters of operations: in the query, and the variables of paths.

use cloudeck_machinery::{Map, Value, value};

use crate::types::{Scalar, Shape, TypeRef};

/// Names and types, sorted by name.
pub(super) type Parameters = Vec<(String, &'static str)>;

const LIST: [(&str, &str); 11] = [
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("pretty", "string"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const WRITE: [(&str, &str); 4] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("pretty", "string"),
];
const PATCH: [(&str, &str); 5] = [
    ("dryRun", "string"),
    ("fieldManager", "string"),
    ("fieldValidation", "string"),
    ("force", "boolean"),
    ("pretty", "string"),
];
const DELETE: [(&str, &str); 6] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("pretty", "string"),
    ("propagationPolicy", "string"),
];

/// What an action takes in its query.
pub(super) fn of_action(action: &str) -> Parameters {
    let owned = |pairs: &[(&str, &'static str)]| -> Parameters {
        pairs.iter().map(|(name, ty)| ((*name).to_owned(), *ty)).collect()
    };
    match action {
        "list" => owned(&LIST),
        "post" | "put" => owned(&WRITE),
        "patch" => owned(&PATCH),
        "delete" => owned(&DELETE),
        // Selects as a list does, but does not watch.
        "deletecollection" => {
            let mut both = owned(&DELETE);
            both.extend(
                owned(&LIST)
                    .into_iter()
                    .filter(|(name, _)| !matches!(name.as_str(), "allowWatchBookmarks" | "pretty" | "watch")),
            );
            both.sort_unstable();
            both
        }
        _ => owned(&[("pretty", "string")]),
    }
}

/// Options that stand in the query instead of a body: the fields of their type, but for times, which have no schema
/// there.
pub(super) fn of_options(options: TypeRef) -> Parameters {
    let mut all: Parameters = options
        .fields()
        .filter(|field| !matches!(field.name(), "apiVersion" | "kind"))
        .filter_map(|field| Some((field.name().to_owned(), type_in_query(field.ty())?)))
        .collect();
    all.sort_unstable();
    all
}

/// Lists are repeated parameters.
fn type_in_query(ty: TypeRef) -> Option<&'static str> {
    match ty.shape() {
        Shape::Scalar(Scalar::Bool) => Some("boolean"),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64) => Some("integer"),
        Shape::Scalar(Scalar::String) => Some("string"),
        Shape::List { item, .. } => type_in_query(item),
        _ => None,
    }
}

/// Writes parameters to operations, and to their path what all of them share and the variables in `path`.
pub(super) fn place(path: &str, operations: Vec<(&'static str, Value, Parameters)>) -> Value {
    let shared: Parameters = match operations.split_first() {
        Some(((_, _, first), others)) => first
            .iter()
            .filter(|parameter| others.iter().all(|(_, _, all)| all.contains(parameter)))
            .cloned()
            .collect(),
        None => Parameters::new(),
    };
    let mut item = Map::new();
    for (method, mut operation, own) in operations {
        let own: Vec<Value> = own
            .iter()
            .filter(|parameter| !shared.contains(parameter))
            .map(|(name, ty)| parameter(name, "query", ty))
            .collect();
        if !own.is_empty() {
            operation.set_at(&["parameters"], own);
        }
        item.insert(method, operation);
    }
    let variables = ["name", "namespace", "path"]
        .into_iter()
        .filter(|name| path.contains(&format!("{{{name}}}")))
        .map(|name| (name, parameter(name, "path", "string")));
    let mut all: Vec<(&str, Value)> = shared
        .iter()
        .map(|(name, ty)| (name.as_str(), parameter(name, "query", ty)))
        .chain(variables)
        .collect();
    all.sort_by_key(|(name, _)| *name);
    if !all.is_empty() {
        let all: Vec<Value> = all.into_iter().map(|(_, parameter)| parameter).collect();
        item.insert("parameters", all.into());
    }
    Value::Object(item)
}

fn parameter(name: &str, place: &str, ty: &str) -> Value {
    let mut parameter =
        value!({"name": (name), "in": (place), "schema": {"type": (ty), "uniqueItems": true}});
    if place == "path" {
        parameter.set_at(&["required"], true);
    }
    parameter
}
