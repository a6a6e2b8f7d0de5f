//! A small world for the tests of the plug-ins.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cloudeck_auth::{Attributes, Authorizer, Decision, LocalIdentity, ObjectReader, UserInfo};
use cloudeck_machinery::{Object, Value, json};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal, Remarks};

/// Objects by `resource/namespace/name`, and a user's rights as `verb resource/subresource name` lines.
#[derive(Default)]
pub(crate) struct World {
    objects: BTreeMap<String, Arc<Object>>,
    rights: Vec<String>,
}

impl World {
    pub(crate) fn with_rights(rights: &[&str]) -> Self {
        Self {
            rights: rights.iter().map(|right| (*right).to_owned()).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, resource: &str, namespace: &str, name: &str, mut tree: Value) -> Self {
        tree.set_at(&["metadata", "name"], name);
        if !namespace.is_empty() {
            tree.set_at(&["metadata", "namespace"], namespace);
        }
        let object = Object::from_json(Bytes::from(json::to_vec(&tree))).unwrap();
        self.objects
            .insert(format!("{resource}/{namespace}/{name}"), Arc::new(object));
        self
    }

    pub(crate) fn admit(
        &self,
        plugin: &dyn Plugin,
        request: &mut AdmissionRequest<'_>,
    ) -> Result<(), Refusal> {
        plugin.admit(request, &self.context())
    }

    pub(crate) fn validate(
        &self,
        plugin: &dyn Plugin,
        request: &AdmissionRequest<'_>,
    ) -> Result<Remarks, Refusal> {
        let mut remarks = Remarks::default();
        plugin.validate(request, &self.context(), &mut remarks)?;
        Ok(remarks)
    }

    /// Both halves: the object as it would be stored, or the message of the refusal.
    pub(crate) fn run(
        &self,
        plugin: &dyn Plugin,
        mut request: AdmissionRequest<'_>,
    ) -> Result<Value, String> {
        let message = |refusal: Refusal| refusal.status.message;
        self.admit(plugin, &mut request).map_err(message)?;
        self.validate(plugin, &request).map_err(message)?;
        Ok(request.object)
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            reader: self,
            authorizer: self,
            random_suffix: &|| "abcde".to_owned(),
        }
    }
}

impl ObjectReader for World {
    fn get(&self, _: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects
            .get(&format!("{resource}/{namespace}/{name}"))
            .cloned()
    }

    fn list(&self, _: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let prefix = if namespace.is_empty() {
            format!("{resource}/")
        } else {
            format!("{resource}/{namespace}/")
        };
        self.objects
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, o)| o.clone())
            .collect()
    }
}

impl Authorizer for World {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        let wanted = format!(
            "{} {}/{} {}",
            asked.verb, asked.resource, asked.subresource, asked.name
        );
        if self.rights.contains(&wanted) {
            Decision::allow("")
        } else {
            Decision::no_opinion("")
        }
    }
}

pub(crate) fn nobody() -> UserInfo {
    UserInfo::named("jane")
}

pub(crate) fn node_user(name: &str) -> UserInfo {
    UserInfo::clone(LocalIdentity::node(name).user())
}

/// A create in namespace `dev` of the core group.
pub(crate) fn create<'a>(user: &'a UserInfo, resource: &'a str, object: Value) -> AdmissionRequest<'a> {
    AdmissionRequest {
        operation: Operation::Create,
        group: "",
        version: "v1",
        resource,
        subresource: "",
        namespace: "dev",
        name: "",
        user,
        object,
        old: None,
    }
}
