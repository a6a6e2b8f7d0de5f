//! Whether an applied tree fits its type: apply refuses unknown fields and duplicate items before it merges.

use std::collections::HashSet;

use cloudeck_machinery::{Map, Value};
use cloudeck_schema::{ListKind, Scalar, Shape};

use super::{Form, Type};
use crate::fieldset::{field_element, print_element};
use crate::go::{go, go_syntax, go_type};

/// Everything that does not fit, as upstream words it; one line, or several under `errors:`.
pub(crate) fn validate(ty: Type, value: &Value) -> Result<(), String> {
    let mut problems = Vec::new();
    walk(ty, value, "", &mut problems);
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

fn walk(ty: Type, value: &Value, path: &str, problems: &mut Vec<String>) {
    let Type::Known(known) = ty else {
        return;
    };
    if value.is_null() {
        return;
    }
    let mut problem = |text: String| {
        problems.push(if path.is_empty() {
            text
        } else {
            format!("{path}: {text}")
        });
    };
    match (known.shape(), value) {
        (Shape::Any, _) => {}
        (Shape::Scalar(scalar), _) => {
            if let Some(text) = scalar_problem(scalar, value) {
                problem(text);
            }
        }
        (Shape::Struct { .. } | Shape::Map { .. }, Value::Object(members)) => {
            map(ty, members, path, problems);
        }
        (Shape::Struct { .. } | Shape::Map { .. }, _) => {
            problem(format!("expected map, got &{{{}}}", go(value)));
        }
        (
            Shape::List {
                item,
                kind: ListKind::Atomic,
            },
            Value::Array(items),
        ) => {
            for (at, value) in items.iter().enumerate() {
                walk(Type::Known(item), value, &format!("{path}[{at}]"), problems);
            }
        }
        (Shape::List { .. }, Value::Array(items)) => list(ty, items, path, problems),
        (Shape::List { .. }, _) => problem(format!("expected list, got &{{{}}}", go(value))),
    }
}

fn map(ty: Type, members: &Map, path: &str, problems: &mut Vec<String>) {
    let open = matches!(ty, Type::Known(known) if matches!(known.shape(), Shape::Map { .. }));
    for (name, member) in members.iter() {
        let path = format!("{path}{}", print_element(&field_element(name)));
        if !open && !ty.declares(name) {
            problems.push(format!("{path}: field not declared in schema"));
            return;
        }
        walk(ty.member(name), member, &path, problems);
    }
}

fn list(ty: Type, items: &[Value], path: &str, problems: &mut Vec<String>) {
    let Form::List(list) = ty.form(None) else {
        return;
    };
    let mut seen = HashSet::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let here = |text: String| {
            if path.is_empty() {
                text
            } else {
                format!("{path}: {text}")
            }
        };
        let element = match list.element(item) {
            Ok(element) => element,
            Err(why) => return problems.push(here(format!("element {at}: {why}"))),
        };
        if seen.contains(&element) {
            problems.push(here(format!(
                "duplicate entries for key {}",
                print_element(&element)
            )));
        }
        walk(
            list.item,
            item,
            &format!("{path}{}", print_element(&element)),
            problems,
        );
        seen.insert(element);
    }
}

fn scalar_problem(scalar: Scalar, value: &Value) -> Option<String> {
    let is_scalar = !matches!(value, Value::Array(_) | Value::Object(_));
    match scalar {
        Scalar::Int32 | Scalar::Int64 | Scalar::Float => (!matches!(value, Value::Int(_) | Value::Float(_)))
            .then(|| format!("expected numeric (int or float), got {}", go_type(value))),
        Scalar::Bool => value
            .as_bool()
            .is_none()
            .then(|| format!("expected boolean, got &{{{}}}", go(value))),
        Scalar::String | Scalar::Bytes | Scalar::Duration => value.as_str().is_none().then(|| {
            format!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                go_syntax(value)
            )
        }),
        Scalar::Quantity | Scalar::IntOrString | Scalar::Time | Scalar::MicroTime => {
            (!is_scalar).then(|| format!("expected any scalar, got &{{{}}}", go(value)))
        }
    }
}
