//! The kinds that are served: one [`Kind`] per stored kind, one [`View`] per group, version and resource.

use std::collections::HashMap;
use std::sync::Arc;

use cloudeck_machinery::GroupVersionResource;
use cloudeck_schema::{ResourceInfo, TypeRef};
use cloudeck_strategy::Strategy;

use crate::cache::KindCache;
use crate::conversion::Conversion;

/// A storage kind: what the datastore holds under one prefix, in one version.
pub(crate) struct Kind {
    /// Its place in [`Kinds::all`].
    pub(crate) index: usize,
    /// The resource whose version is the storage version.
    pub(crate) info: &'static ResourceInfo,
    pub(crate) ty: TypeRef,
    pub(crate) strategy: &'static Strategy,
    /// `/registry/core/pods/`.
    pub(crate) prefix: Box<str>,
    pub(crate) cache: KindCache,
}

/// One served resource: a view of a storage kind.
pub(crate) struct View {
    pub(crate) info: &'static ResourceInfo,
    pub(crate) ty: TypeRef,
    pub(crate) kind: Arc<Kind>,
    pub(crate) conversion: Conversion,
    /// `v1` or `apps/v1`.
    pub(crate) api_version: Box<str>,
}

/// Everything that is served.
pub(crate) struct Kinds {
    all: Vec<Arc<Kind>>,
    views: HashMap<GroupVersionResource, Arc<View>>,
    by_prefix: HashMap<Box<[u8]>, Arc<Kind>>,
}

impl Kind {
    pub(crate) fn group(&self) -> &'static str {
        self.info.group
    }

    pub(crate) fn plural(&self) -> &'static str {
        self.info.plural
    }

    /// Whether this is `resource` of `group`.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.info.plural == plural && self.info.group == group
    }

    /// The datastore's key of an object.
    pub(crate) fn key(&self, namespace: &str, name: &str) -> String {
        let slash = if namespace.is_empty() { "" } else { "/" };
        format!("{}{namespace}{slash}{name}", self.prefix)
    }

    /// Namespace and name in a key under this kind's prefix.
    pub(crate) fn split_key<'a>(&self, key: &'a [u8]) -> (&'a str, &'a str) {
        let rest = key.get(self.prefix.len()..).unwrap_or_default();
        let rest = std::str::from_utf8(rest).unwrap_or_default();
        if self.info.namespaced {
            rest.split_once('/').unwrap_or(("", rest))
        } else {
            ("", rest)
        }
    }
}

impl View {
    pub(crate) fn group(&self) -> &'static str {
        self.info.group
    }

    pub(crate) fn plural(&self) -> &'static str {
        self.info.plural
    }

    pub(crate) fn kind_name(&self) -> &'static str {
        self.info.kind
    }
}

impl Kinds {
    /// Builds the tables from the schema's facts.
    pub(crate) fn from_schema() -> Self {
        let mut kinds = Self {
            all: Vec::new(),
            views: HashMap::new(),
            by_prefix: HashMap::new(),
        };
        for info in cloudeck_schema::resources() {
            kinds.add(info);
        }
        kinds
    }

    fn add(&mut self, info: &'static ResourceInfo) {
        let (Some(ty), Some(kind)) = (info.root, self.storage_kind(info)) else {
            return;
        };
        let view = View {
            info,
            ty,
            conversion: Conversion::between(kind.info, info),
            kind,
            api_version: api_version(info.group, info.version).into(),
        };
        let name = GroupVersionResource::new(info.group, info.version, info.plural);
        self.views.insert(name, Arc::new(view));
    }

    /// The kind that stores `info`; `None` for virtual resources.
    fn storage_kind(&mut self, info: &'static ResourceInfo) -> Option<Arc<Kind>> {
        // Reviews, bindings and the like are only ever created.
        if !info.has_verb("list") && !info.has_verb("get") {
            return None;
        }
        let storage = info.storage;
        let group = if storage.group.is_empty() {
            "core"
        } else {
            storage.group
        };
        let short = format!("{group}/{}", storage.plural)
            .into_bytes()
            .into_boxed_slice();
        if let Some(kind) = self.by_prefix.get(&short) {
            return Some(Arc::clone(kind));
        }
        let stored = cloudeck_schema::resource(storage.group, storage.version, storage.plural)?;
        let kind = Arc::new(Kind {
            index: self.all.len(),
            info: stored,
            ty: stored.root?,
            strategy: cloudeck_strategy::strategy(stored.group, stored.kind),
            prefix: format!("/registry/{group}/{}/", storage.plural).into(),
            cache: KindCache::new(),
        });
        self.all.push(Arc::clone(&kind));
        self.by_prefix.insert(short, Arc::clone(&kind));
        Some(kind)
    }

    pub(crate) fn all(&self) -> &[Arc<Kind>] {
        &self.all
    }

    pub(crate) fn view(&self, resource: &GroupVersionResource) -> Option<&Arc<View>> {
        self.views.get(resource)
    }

    /// The storage kind by its storage group and plural.
    pub(crate) fn stored(&self, group: &str, plural: &str) -> Option<&Arc<Kind>> {
        let group = if group.is_empty() { "core" } else { group };
        self.by_prefix.get(format!("{group}/{plural}").as_bytes())
    }

    /// The kind whose prefix `key` has.
    pub(crate) fn of_key(&self, key: &[u8]) -> Option<&Arc<Kind>> {
        let rest = key.strip_prefix(crate::cache::feed::ROOT)?;
        let group_end = memchr::memchr(b'/', rest)?;
        let plural_end = group_end + 1 + memchr::memchr(b'/', &rest[group_end + 1..])?;
        self.by_prefix.get(&rest[..plural_end])
    }
}

pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}
