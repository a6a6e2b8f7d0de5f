//! Table rows as `kubectl get` shows them.

use cloudeck_machinery::Value;

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

/// Name and age: the row of kinds without columns of their own.
pub fn name_and_age(object: &Value, _row: TableRow<'_>) -> Vec<Value> {
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
    vec![
        Value::from(name),
        object
            .at(&["metadata", "creationTimestamp"])
            .cloned()
            .unwrap_or_default(),
    ]
}
