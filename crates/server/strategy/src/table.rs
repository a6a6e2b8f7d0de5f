//! Table rows as `kubectl get` shows them, and the parts that rows of several kinds share.
//!
//! Source: `pkg/printers/internalversion/printers.go`. The server always renders the wide form.

use cloudeck_machinery::time::duration::human;
use cloudeck_machinery::{LabelSelector, Map, MicroTime, Time, Value};

/// A column definition, as `metav1.TableColumnDefinition`.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, `date`.
    pub column_type: &'static str,
    /// `name` for the name column, else mostly empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: i32,
}

/// What a row is rendered against.
#[derive(Debug, Clone, Copy)]
pub struct TableRow<'a> {
    /// Seconds since the epoch, for ages.
    pub now: i64,
    /// The request's namespace, for printers that shorten names.
    pub namespace: &'a str,
}

/// The columns that most kinds begin and end with.
pub(crate) const NAME: Column = Column {
    name: "Name",
    column_type: "string",
    format: "name",
    description: "The object's name, unique within its namespace.",
    priority: 0,
};
pub(crate) const AGE: Column = text("Age", "How long ago the object was created.");
pub(crate) const CONTAINERS: Column = wide("Containers", "Names of each container in the template.");
pub(crate) const IMAGES: Column = wide("Images", "Images referenced by each container in the template.");
pub(crate) const SELECTOR: Column = wide("Selector", "Label query over the pods that belong to the object.");

pub(crate) const fn text(name: &'static str, description: &'static str) -> Column {
    typed(name, "string", description)
}

pub(crate) const fn typed(
    name: &'static str,
    column_type: &'static str,
    description: &'static str,
) -> Column {
    Column {
        name,
        column_type,
        format: "",
        description,
        priority: 0,
    }
}

/// A column of `-o wide`.
pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column {
    Column {
        priority: 1,
        ..text(name, description)
    }
}

/// Name and age: the row of kinds without columns of their own.
pub fn name_and_age(object: &Value, _row: TableRow<'_>) -> Vec<Value> {
    vec![
        name(object),
        object
            .at(&["metadata", "creationTimestamp"])
            .cloned()
            .unwrap_or_default(),
    ]
}

/// The object's name.
pub(crate) fn name(object: &Value) -> Value {
    string(object, &["metadata", "name"])
}

/// The text at a path; empty when absent.
pub(crate) fn string(object: &Value, path: &[&str]) -> Value {
    Value::from(object.str_at(path).unwrap_or_default())
}

/// The text at a path, or what stands for an empty one.
pub(crate) fn string_or(object: &Value, path: &[&str], empty: &str) -> Value {
    let text = object.str_at(path).filter(|text| !text.is_empty());
    Value::from(text.unwrap_or(empty))
}

/// The number at a path; 0 when absent.
pub(crate) fn integer(object: &Value, path: &[&str]) -> Value {
    Value::from(object.int_at(path).unwrap_or(0))
}

/// How long ago the object was created.
pub(crate) fn age(object: &Value, row: TableRow<'_>) -> Value {
    Value::from(since(object.str_at(&["metadata", "creationTimestamp"]), row.now))
}

/// How long ago a time is, of either precision; `<unknown>` when there is none.
pub(crate) fn since(time: Option<&str>, now: i64) -> String {
    match time.and_then(seconds) {
        Some(then) => human(now - then),
        None => "<unknown>".to_owned(),
    }
}

/// A time in seconds, of either precision.
pub(crate) fn seconds(time: &str) -> Option<i64> {
    let seconds = Time::parse(time).ok().map(Time::unix);
    seconds.or_else(|| {
        let micros = MicroTime::parse(time).ok()?.unix_micros();
        Some(micros.div_euclid(1_000_000))
    })
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn labels(labels: Option<&Value>) -> Value {
    let pairs: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    Value::from(or_none(&pairs.join(",")))
}

/// A `metav1.LabelSelector` in its text form, or `<none>`.
pub(crate) fn selector(selector: Option<&Value>) -> Value {
    match LabelSelector::from_value(selector) {
        Ok(selector) => Value::from(or_none(&selector.to_string())),
        Err(_) => Value::from("<error>"),
    }
}

/// The names and the images of the containers of a pod specification.
pub(crate) fn containers(spec: Option<&Value>) -> [Value; 2] {
    ["name", "image"].map(|key| {
        let containers = spec
            .map(|spec| spec.items_at(&["containers"]))
            .unwrap_or_default();
        let parts: Vec<&str> = containers
            .iter()
            .map(|container| container.str_at(&[key]).unwrap_or_default())
            .collect();
        Value::from(parts.join(","))
    })
}

/// The text itself, `<none>` for an empty one.
pub(crate) fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// Whether a condition of the type has the status.
pub(crate) fn has_condition(object: &Value, kind: &str, status: &str) -> bool {
    object
        .items_at(&["status", "conditions"])
        .iter()
        .any(|condition| {
            condition.str_at(&["type"]) == Some(kind) && condition.str_at(&["status"]) == Some(status)
        })
}
