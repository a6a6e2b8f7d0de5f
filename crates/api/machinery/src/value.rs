//! The value tree: JSON with int64 and float apart and absent told from null.
//!
//! Objects are sorted small vectors; keys and short strings (up to 24 bytes) live inline, so a typical Pod costs a
//! fraction of what a hash-map tree holds. The tree is transient: the server keeps serialised bytes, not trees.

mod map;

pub use map::{Key, Map};

use compact_str::CompactString;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    String(CompactString),
    Array(Vec<Value>),
    Object(Map),
}

impl Value {
    /// An empty object.
    pub fn object() -> Self {
        Self::Object(Map::new())
    }

    /// The member `key` of an object; `None` for other values and absent members. An explicit null is `Some(Null)`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.as_object_mut()?.get_mut(key)
    }

    /// Descends through object members: `pod.at(&["metadata", "name"])`.
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter().try_fold(self, |value, key| value.get(key))
    }

    pub fn at_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(self, |value, key| value.get_mut(key))
    }

    /// The string at a path of members.
    pub fn str_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// The integer at a path of members.
    pub fn int_at(&self, path: &[&str]) -> Option<i64> {
        self.at(path)?.as_int()
    }

    /// The boolean at a path of members.
    pub fn bool_at(&self, path: &[&str]) -> Option<bool> {
        self.at(path)?.as_bool()
    }

    /// The items of the array at a path of members; empty when absent, null or of another type.
    pub fn items_at(&self, path: &[&str]) -> &[Value] {
        self.at(path).and_then(Value::as_array).unwrap_or_default()
    }

    /// The object at `path`, created (replacing null) along the way. `None` when something else stands in the way.
    pub fn ensure_object(&mut self, path: &[&str]) -> Option<&mut Map> {
        let mut here = self;
        for key in path {
            if here.is_null() {
                *here = Value::object();
            }
            here = here.as_object_mut()?.get_or_insert_null(key);
        }
        if here.is_null() {
            *here = Value::object();
        }
        here.as_object_mut()
    }

    /// Sets the member at `path`, creating objects along the way. Returns false when a non-object stands in the way.
    pub fn set_at(&mut self, path: &[&str], value: impl Into<Value>) -> bool {
        let Some((last, parents)) = path.split_last() else {
            *self = value.into();
            return true;
        };
        let Some(parent) = self.ensure_object(parents) else {
            return false;
        };
        parent.insert(last, value.into());
        true
    }

    /// Removes and returns the member at `path`.
    pub fn remove_at(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        self.at_mut(parents)?.as_object_mut()?.remove(last)
    }

    /// Whether anything stands more than `limit` steps below this value. Looks no deeper than that itself.
    pub fn is_deeper_than(&self, limit: usize) -> bool {
        let below = |child: &Value| limit == 0 || child.is_deeper_than(limit - 1);
        match self {
            Self::Array(items) => items.iter().any(below),
            Self::Object(members) => members.values().any(below),
            _ => false,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Self::Object(map) => Some(map),
            _ => None,
        }
    }

    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Self::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The JSON name of the value's type, as error messages use it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Float(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<CompactString> for Value {
    fn from(text: CompactString) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::Array(items)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Object(map)
    }
}

impl std::fmt::Display for Value {
    /// Compact JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = Vec::new();
        crate::json::write(self, &mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// Builds a [`Value`] with JSON syntax: `value!({"kind": "Pod", "n": (x)})`; Rust expressions stand in parentheses.
#[macro_export]
macro_rules! value {
    (null) => { $crate::Value::Null };
    (true) => { $crate::Value::Bool(true) };
    (false) => { $crate::Value::Bool(false) };
    ([ $($item:tt),* $(,)? ]) => { $crate::Value::Array(vec![ $( $crate::value!($item) ),* ]) };
    ({ $($key:tt : $item:tt),* $(,)? }) => {{
        #[allow(unused_mut, reason = "empty objects")]
        let mut map = $crate::Map::new();
        $( map.insert($key, $crate::value!($item)); )*
        $crate::Value::Object(map)
    }};
    (( $expression:expr )) => { $crate::Value::from($expression) };
    ($literal:expr) => { $crate::Value::from($literal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_creates_objects_and_stops_at_scalars() {
        let mut pod = Value::object();
        assert!(pod.set_at(&["metadata", "name"], "a"));
        assert_eq!(pod.str_at(&["metadata", "name"]), Some("a"));
        assert!(!pod.set_at(&["metadata", "name", "x"], "b"));
        assert_eq!(pod.remove_at(&["metadata", "name"]), Some(Value::from("a")));
        assert_eq!(pod.to_string(), r#"{"metadata":{}}"#);
    }

    #[test]
    fn the_macro_builds_trees() {
        let replicas = 3;
        let tree = value!({"spec": {"replicas": (replicas), "paused": false, "x": [1, "a", null]}});
        assert_eq!(
            tree.to_string(),
            r#"{"spec":{"paused":false,"replicas":3,"x":[1,"a",null]}}"#
        );
    }
}
