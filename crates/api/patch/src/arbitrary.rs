//! Random trees and patches for the property tests.

use cloudeck_machinery::{Value, value};
use proptest::prelude::*;

fn key() -> impl Strategy<Value = String> {
    "[abk]|name|é~/"
}

pub(crate) fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3i64..3).prop_map(Value::Int),
        Just(Value::Float(0.5)),
        "[ab]{0,2}".prop_map(Value::from),
    ]
}

/// Any tree of moderate depth.
pub(crate) fn tree() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object of such trees.
pub(crate) fn object() -> impl Strategy<Value = Value> {
    prop::collection::vec((key(), tree()), 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

/// JSON patch operations, mostly well formed.
pub(crate) fn operations() -> impl Strategy<Value = Value> {
    let step = "(/(a|b|k|name|0|1|-|-1|~0|~1)){0,3}";
    let op = "add|remove|replace|move|copy|test|odd";
    let operation = (op, step, step, tree()).prop_map(
        |(op, path, from, tree)| value!({"op": (op), "path": (path), "from": (from), "value": (tree)}),
    );
    prop::collection::vec(operation, 0..6).prop_map(Value::Array)
}
