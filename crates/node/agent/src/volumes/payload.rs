//! Files made of API data: config maps and secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_machinery::{GroupVersionResource, Reason, Status};
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Pod, Secret};

use super::SetUpError;
use crate::node::Node;

/// The default mode of files made of API data.
pub(super) const DEFAULT_MODE: i32 = 0o644;

/// A volume's files by relative path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) files: BTreeMap<String, File>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
    /// The user that must own it, where that matters (tokens).
    pub(super) owner: Option<u32>,
}

impl Payload {
    pub(super) fn add(&mut self, path: &str, content: Vec<u8>, mode: i32) {
        self.files.insert(
            path.to_owned(),
            File {
                content,
                mode: mode as u32 & 0o777,
                owner: None,
            },
        );
    }
}

/// Reads a config map; `None` when it is missing and may be.
pub(crate) async fn read_config_map(
    node: &Node,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<ConfigMap>, SetUpError> {
    let object = read(node, "configmaps", "configmap", namespace, name, optional).await?;
    object
        .map(|o| cloudeck_objects::config_map(&o.json).map_err(|e| SetUpError::Api(Status::internal(e))))
        .transpose()
}

/// Reads a secret; `None` when it is missing and may be.
pub(crate) async fn read_secret(
    node: &Node,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Secret>, SetUpError> {
    let object = read(node, "secrets", "secret", namespace, name, optional).await?;
    object
        .map(|o| cloudeck_objects::secret(&o.json).map_err(|e| SetUpError::Api(Status::internal(e))))
        .transpose()
}

async fn read(
    node: &Node,
    resource: &str,
    kind: &'static str,
    namespace: &str,
    name: &str,
    optional: bool,
) -> Result<Option<Arc<cloudeck_machinery::Object>>, SetUpError> {
    match node
        .client
        .get(&GroupVersionResource::new("", "v1", resource), namespace, name)
        .await
    {
        Ok(object) => Ok(Some(object)),
        Err(status) if status.reason == Reason::NotFound && optional => Ok(None),
        Err(status) if status.reason == Reason::NotFound => Err(SetUpError::ObjectMissing {
            kind,
            name: name.to_owned(),
        }),
        Err(status) => Err(SetUpError::Api(status)),
    }
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// Which keys of an object become which files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selection<'a> {
    pub(super) name: &'a str,
    pub(super) items: &'a [KeyToPath],
    /// Where an item names none of its own.
    pub(super) mode: i32,
    pub(super) optional: bool,
}

/// Adds the files that are made of a config map.
pub(super) async fn add_config_map(
    node: &Node,
    pod: &Pod,
    wanted: Selection<'_>,
    payload: &mut Payload,
) -> Result<(), SetUpError> {
    let Some(map) = read_config_map(node, namespace(pod), wanted.name, wanted.optional).await? else {
        return Ok(());
    };
    let texts = map.data.unwrap_or_default().into_iter();
    let bytes = map.binary_data.unwrap_or_default().into_iter();
    let data = texts
        .map(|(key, text)| (key, text.into_bytes()))
        .chain(bytes.map(|(key, bytes)| (key, bytes.0)));
    select("configmap", data.collect(), wanted, payload)
}

/// Adds the files that are made of a secret.
pub(super) async fn add_secret(
    node: &Node,
    pod: &Pod,
    wanted: Selection<'_>,
    payload: &mut Payload,
) -> Result<(), SetUpError> {
    let Some(secret) = read_secret(node, namespace(pod), wanted.name, wanted.optional).await? else {
        return Ok(());
    };
    let bytes = secret.data.unwrap_or_default().into_iter();
    let data = bytes.map(|(key, bytes)| (key, bytes.0));
    select("secret", data.collect(), wanted, payload)
}

/// All keys under their own names, or the named ones under the paths given.
fn select(
    kind: &'static str,
    data: BTreeMap<String, Vec<u8>>,
    wanted: Selection<'_>,
    payload: &mut Payload,
) -> Result<(), SetUpError> {
    let Selection {
        items,
        mode,
        optional,
        ..
    } = wanted;
    if items.is_empty() {
        for (key, content) in data {
            payload.add(&key, content, mode);
        }
        return Ok(());
    }
    for item in items {
        match data.get(&item.key) {
            Some(content) => payload.add(&item.path, content.clone(), item.mode.unwrap_or(mode)),
            None if optional => {}
            None => {
                return Err(SetUpError::KeyMissing {
                    kind,
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> BTreeMap<String, Vec<u8>> {
        BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())])
    }

    fn wanted(items: &[KeyToPath], mode: i32, optional: bool) -> Selection<'_> {
        Selection {
            name: "m",
            items,
            mode,
            optional,
        }
    }

    #[test]
    fn without_items_every_key_is_a_file() {
        let mut payload = Payload::default();
        select("configmap", data(), wanted(&[], 0o600, false), &mut payload).unwrap();
        assert_eq!(payload.files.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(payload.files["a"].mode, 0o600);
    }

    #[test]
    fn a_missing_key_fails_unless_optional() {
        let items = [KeyToPath {
            key: "x".into(),
            path: "x".into(),
            mode: None,
            ..KeyToPath::default()
        }];
        let error = select(
            "configmap",
            data(),
            wanted(&items, 0o644, false),
            &mut Payload::default(),
        );
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "references non-existent configmap key: x");
        select(
            "configmap",
            data(),
            wanted(&items, 0o644, true),
            &mut Payload::default(),
        )
        .unwrap();
    }
}
