//! What validation is made of: paths that cost nothing until an error prints them, and the list of errors.
//!
//! Source: `k8s.io/apimachinery/pkg/util/validation/field`.

use std::fmt;

use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{Cause, CauseType, Map, Value, names};

/// A field's place, as a chain of borrowed steps.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    pub(crate) const fn root(name: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(name),
        }
    }

    pub(crate) const fn field(&'a self, name: &'a str) -> Self {
        self.step(Step::Field(name))
    }

    pub(crate) const fn index(&'a self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// An element of a map.
    pub(crate) const fn key(&'a self, key: &'a str) -> Self {
        self.step(Step::Key(key))
    }

    const fn step(&'a self, step: Step<'a>) -> Self {
        Self {
            parent: Some(self),
            step,
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(name) if self.parent.is_none() => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// How a refused value prints: texts quoted, simple values plain, everything else as JSON.
pub(crate) trait Shown {
    fn show(&self) -> String;
}

impl Shown for str {
    fn show(&self) -> String {
        quote(self)
    }
}

impl Shown for i64 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Shown for Value {
    fn show(&self) -> String {
        match self {
            Value::String(text) => quote(text),
            other => other.to_string(),
        }
    }
}

/// The errors found so far, in the order in which upstream finds them.
#[derive(Default)]
pub(crate) struct Faults(Vec<Cause>);

impl Faults {
    pub(crate) fn into_causes(self) -> Vec<Cause> {
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn push(&mut self, cause: CauseType, at: &At<'_>, head: &str, detail: &str) {
        let message = if detail.is_empty() {
            head.to_owned()
        } else {
            format!("{head}: {detail}")
        };
        self.0.push(Cause {
            cause,
            message,
            field: at.to_string(),
        });
    }

    pub(crate) fn required(&mut self, at: &At<'_>, detail: &str) {
        self.push(CauseType::Required, at, "Required value", detail);
    }

    pub(crate) fn invalid<V: Shown + ?Sized>(&mut self, at: &At<'_>, value: &V, detail: &str) {
        let head = format!("Invalid value: {}", value.show());
        self.push(CauseType::Invalid, at, &head, detail);
    }

    /// One error per problem with a value.
    pub(crate) fn all_invalid<V: Shown + ?Sized>(&mut self, at: &At<'_>, value: &V, problems: Vec<String>) {
        for problem in problems {
            self.invalid(at, value, &problem);
        }
    }

    /// An error that does not show the value.
    pub(crate) fn invalid_whole(&mut self, at: &At<'_>, detail: &str) {
        self.push(CauseType::Invalid, at, "Invalid value", detail);
    }

    pub(crate) fn forbidden(&mut self, at: &At<'_>, detail: &str) {
        self.push(CauseType::Forbidden, at, "Forbidden", detail);
    }

    pub(crate) fn duplicate<V: Shown + ?Sized>(&mut self, at: &At<'_>, value: &V) {
        let head = format!("Duplicate value: {}", value.show());
        self.push(CauseType::Duplicate, at, &head, "");
    }

    pub(crate) fn not_found(&mut self, at: &At<'_>, value: &str, detail: &str) {
        let head = format!("Not found: {}", quote(value));
        self.push(CauseType::NotFound, at, &head, detail);
    }

    pub(crate) fn not_supported<V: Shown + ?Sized>(&mut self, at: &At<'_>, value: &V, supported: &[&str]) {
        let head = format!("Unsupported value: {}", value.show());
        let list: Vec<String> = supported.iter().map(|one| quote(one)).collect();
        let detail = format!("supported values: {}", list.join(", "));
        self.push(CauseType::NotSupported, at, &head, &detail);
    }

    pub(crate) fn too_long(&mut self, at: &At<'_>, limit: usize) {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        let detail = format!("may not be more than {limit} {unit}");
        self.push(CauseType::TooLong, at, "Too long", &detail);
    }

    pub(crate) fn too_many(&mut self, at: &At<'_>, actual: usize, limit: usize) {
        let unit = if limit == 1 { "item" } else { "items" };
        let detail = format!("must have at most {limit} {unit}");
        self.push(CauseType::TooMany, at, &format!("Too many: {actual}"), &detail);
    }

    /// One of a closed set, required.
    pub(crate) fn one_of(&mut self, at: &At<'_>, value: &str, supported: &[&str]) {
        if value.is_empty() {
            self.required(at, "");
        } else if !supported.contains(&value) {
            self.not_supported(at, value, supported);
        }
    }

    pub(crate) fn not_negative(&mut self, at: &At<'_>, value: i64) {
        if value < 0 {
            self.invalid(at, &value, NEGATIVE);
        }
    }

    /// A value that an update may not change. Absent and null count as the same.
    pub(crate) fn immutable(&mut self, at: &At<'_>, new: Option<&Value>, old: Option<&Value>) {
        let [new, old] = [new, old].map(|value| value.filter(|value| !value.is_null()));
        if new != old {
            self.invalid(at, new.unwrap_or(&Value::Null), IMMUTABLE);
        }
    }

    /// A duplicate, and why it may not be.
    pub(crate) fn duplicate_because<V: Shown + ?Sized>(&mut self, at: &At<'_>, value: &V, detail: &str) {
        let head = format!("Duplicate value: {}", value.show());
        self.push(CauseType::Duplicate, at, &head, detail);
    }

    /// The labels of an object or a selector.
    pub(crate) fn labels(&mut self, at: &At<'_>, labels: Option<&Value>) {
        for (key, value) in labels.and_then(Value::as_object).into_iter().flat_map(Map::iter) {
            self.all_invalid(at, key.as_str(), names::qualified_name(key));
            let value = value.as_str().unwrap_or_default();
            self.all_invalid(at, value, names::label_value(value));
        }
    }

    /// A `metav1.LabelSelector`; absent is fine.
    pub(crate) fn label_selector(&mut self, at: &At<'_>, selector: Option<&Value>) {
        let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
            return;
        };
        self.labels(&at.field("matchLabels"), selector.get("matchLabels"));
        for (i, rule) in selector.items_at(&["matchExpressions"]).iter().enumerate() {
            let list = at.field("matchExpressions");
            self.selector_rule(&list.index(i), rule);
        }
    }

    fn selector_rule(&mut self, at: &At<'_>, rule: &Value) {
        let values = rule.items_at(&["values"]);
        match text(rule, "operator") {
            "In" | "NotIn" if values.is_empty() => self.required(
                &at.field("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => self.forbidden(
                &at.field("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => self.invalid(&at.field("operator"), other, "not a valid selector operator"),
        }
        let key = text(rule, "key");
        self.all_invalid(&at.field("key"), key, names::qualified_name(key));
        for (i, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            self.all_invalid(&at.field("values").index(i), value, names::label_value(value));
        }
    }
}

pub(crate) const NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// The number member `key`, if there is one.
pub(crate) fn given(value: &Value, key: &str) -> Option<i64> {
    value.get(key).and_then(Value::as_int)
}

/// The text member `key`; empty when absent.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The number member `key`; 0 when absent.
pub(crate) fn number(value: &Value, key: &str) -> i64 {
    value.get(key).and_then(Value::as_int).unwrap_or(0)
}

/// Whether the member `key` is true.
pub(crate) fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool) == Some(true)
}

/// The items of the list member `key`; none when absent.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).unwrap_or_default()
}

/// The entries of the map member `key`; none when absent.
pub(crate) fn entries<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = value.get(key).and_then(Value::as_object);
    map.into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| (key.as_str(), value))
}

/// The member `key`, unless it is null.
pub(crate) fn present<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_messages_print_as_upstreams() {
        let mut faults = Faults::default();
        let spec = At::root("spec");
        faults.required(&spec.field("containers").index(0).field("name"), "");
        faults.invalid(&spec.field("labels").key("a/b"), "x", "must be y");
        faults.not_supported(&spec.field("type"), "Z", &["A", "B"]);
        faults.too_many(&spec, 21, 20);
        faults.duplicate(&spec, &7);
        let lines: Vec<String> = faults
            .into_causes()
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        assert_eq!(
            lines,
            [
                "spec.containers[0].name: Required value",
                "spec.labels[a/b]: Invalid value: \"x\": must be y",
                "spec.type: Unsupported value: \"Z\": supported values: \"A\", \"B\"",
                "spec: Too many: 21: must have at most 20 items",
                "spec: Duplicate value: 7",
            ]
        );
    }
}
