//! What the tests of all kinds share: objects from text, errors as lines.

use cloudeck_machinery::{Cause, Value, json};

use crate::strategy;

pub(crate) fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The object after defaulting.
pub(crate) fn defaulted(group: &str, kind: &str, text: &str) -> Value {
    let mut tree = tree(text);
    (strategy(group, kind).default)(&mut tree);
    tree
}

pub(crate) fn lines(causes: &[Cause]) -> Vec<String> {
    causes
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect()
}

/// The errors of creating the object, defaulted first.
pub(crate) fn check_create(group: &str, kind: &str, text: &str, expected: &[&str]) {
    let object = defaulted(group, kind, text);
    let causes = (strategy(group, kind).validate_create)(&object);
    assert_eq!(lines(&causes), expected, "{kind} {text}");
}

/// The errors of an update, both sides defaulted first.
pub(crate) fn check_update(group: &str, kind: &str, old: &str, new: &str, expected: &[&str]) {
    let [old_tree, new_tree] = [old, new].map(|text| defaulted(group, kind, text));
    let causes = (strategy(group, kind).validate_update)(&new_tree, &old_tree);
    assert_eq!(lines(&causes), expected, "{kind} {old} → {new}");
}

/// The errors of a status update.
pub(crate) fn check_status(group: &str, kind: &str, old: &str, new: &str, expected: &[&str]) {
    let causes = (strategy(group, kind).validate_status_update)(&tree(new), &tree(old));
    assert_eq!(lines(&causes), expected, "{kind} {old} → {new}");
}

/// The warnings on a new object.
pub(crate) fn check_warnings(group: &str, kind: &str, text: &str, expected: &[&str]) {
    let found = (strategy(group, kind).warnings)(&defaulted(group, kind, text), None);
    assert_eq!(found, expected, "{kind} {text}");
}
