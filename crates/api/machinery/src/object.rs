//! Names of kinds and resources, and the cached object: one immutable revision of one object.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use compact_str::CompactString;

use crate::json::{self, JsonError};
use crate::value::Value;

/// `apps/v1, Kind=Deployment`. The group is empty for the core group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    pub group: CompactString,
    pub version: CompactString,
    pub kind: CompactString,
}

impl GroupVersionKind {
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

/// `apps/v1/deployments`: how a collection is addressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    pub group: CompactString,
    pub version: CompactString,
    /// Plural, lower case.
    pub resource: CompactString,
}

impl GroupVersionResource {
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

impl fmt::Display for GroupVersionResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.resource)
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Splits `apps/v1` into group and version; `v1` has the empty group.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Namespace and name within one resource. The namespace is empty for cluster-scoped objects.
///
/// Ordered by the bytes of `namespace/name` as one string, as etcd orders them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    pub namespace: CompactString,
    pub name: CompactString,
}

impl ObjectKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        fn joined(key: &ObjectKey) -> impl Iterator<Item = u8> + '_ {
            let slash = (!key.namespace.is_empty()).then_some(b'/');
            key.namespace.bytes().chain(slash).chain(key.name.bytes())
        }
        joined(self).cmp(joined(other))
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One immutable revision of one object: the bytes every reader gets, and the few facts that selection needs.
///
/// Held as `Arc<Object>` by the server's watch cache and handed to in-process clients as such: never copied.
#[derive(Debug)]
pub struct Object {
    /// The serialised JSON, `metadata.resourceVersion` included.
    pub json: Bytes,
    pub key: ObjectKey,
    pub uid: CompactString,
    /// The revision of the event that carries the object; for a deletion, the deletion's.
    pub revision: u64,
    /// Sorted by key.
    pub labels: Box<[(CompactString, CompactString)]>,
    /// Selectable fields beyond `metadata.name` and `metadata.namespace` (`spec.nodeName`), sorted by path.
    pub fields: Box<[(&'static str, CompactString)]>,
    /// See [`Object::kept_tree`].
    kept: OnceLock<Box<Value>>,
}

/// The bytes tell all.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json && self.revision == other.revision
    }
}

impl Object {
    /// Reads the facts from serialised JSON that already holds its resourceVersion; `fields` stays empty.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn from_json(json: Bytes) -> Result<Self, JsonError> {
        let tree = json::parse(&json)?;
        Ok(Self::from_parts(json, &tree, Box::default()))
    }

    /// Puts an object together from its bytes and the tree they were made from.
    pub fn from_parts(json: Bytes, tree: &Value, fields: Box<[(&'static str, CompactString)]>) -> Self {
        let meta = |name: &str| tree.str_at(&["metadata", name]).unwrap_or_default();
        let labels = tree.at(&["metadata", "labels"]).and_then(Value::as_object);
        let labels = labels.into_iter().flat_map(crate::Map::iter);
        Self {
            key: ObjectKey::new(meta("namespace"), meta("name")),
            uid: meta("uid").into(),
            revision: meta("resourceVersion").parse().unwrap_or(0),
            labels: labels
                .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().into()))
                .collect(),
            fields,
            json,
            kept: OnceLock::new(),
        }
    }

    /// The same object as other bytes of another revision.
    #[must_use]
    pub fn with_json(&self, json: Bytes, revision: u64) -> Self {
        Self {
            json,
            key: self.key.clone(),
            uid: self.uid.clone(),
            revision,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            kept: OnceLock::new(),
        }
    }

    /// The label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self
            .labels
            .binary_search_by(|(other, _)| other.as_str().cmp(key))
            .ok()?;
        Some(&self.labels[at].1)
    }

    /// The selectable field's value; metadata.name and metadata.namespace included.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.key.name),
            "metadata.namespace" => Some(&self.key.namespace),
            _ => self
                .fields
                .iter()
                .find(|(other, _)| *other == path)
                .map(|(_, value)| value.as_str()),
        }
    }

    /// The value tree, parsed anew: hold it no longer than needed.
    ///
    /// # Panics
    /// When the bytes are not JSON, which the constructors rule out.
    pub fn tree(&self) -> Value {
        json::parse(&self.json).expect("an object's bytes are JSON")
    }

    /// The value tree, parsed once and kept as long as the object: for the few objects that many requests consult
    /// (a namespace, a service account, a priority class). A tree takes several times the memory of its bytes.
    ///
    /// # Panics
    /// As [`Object::tree`].
    pub fn kept_tree(&self) -> &Value {
        self.kept.get_or_init(|| Box::new(self.tree()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_one_string() {
        // '-' (2d) sorts before '/' (2f): "a-b/x" < "a/x".
        let mut keys = [
            ObjectKey::new("a", "x"),
            ObjectKey::new("a-b", "x"),
            ObjectKey::new("", "a"),
        ];
        keys.sort();
        assert_eq!(keys.map(|k| k.to_string()), ["a", "a-b/x", "a/x"]);
    }

    #[test]
    fn facts_are_read_from_json() {
        let json = r#"{"metadata":{"name":"p","namespace":"n","uid":"u","resourceVersion":"7","labels":{"b":"2","a":"1"}}}"#;
        let object = Object::from_json(Bytes::from_static(json.as_bytes())).unwrap();
        assert_eq!((object.key.to_string().as_str(), object.revision), ("n/p", 7));
        assert_eq!(object.label("b"), Some("2"));
        assert_eq!(object.field("metadata.name"), Some("p"));
    }
}
