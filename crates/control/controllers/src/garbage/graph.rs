//! Who owns whom, as far as it matters: only objects with owners or with a finalizer of the collector are held.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cloudeck_machinery::{Object, ObjectKey};
use cloudeck_schema::ResourceInfo;
use compact_str::CompactString;
use memchr::memmem;
use serde::Deserialize;

/// The room for so many objects is kept when they go.
const LARGE: usize = 4096;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// A reference to an owner.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OwnerReference {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Whether an owner that is deleted in the foreground waits for this object.
    #[serde(default)]
    pub(super) block_owner_deletion: bool,
}

/// What the collector reads of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) owner_references: Vec<OwnerReference>,
    #[serde(default)]
    pub(super) finalizers: Vec<String>,
    deletion_timestamp: Option<String>,
}

impl Metadata {
    /// Reads an object's metadata; objects without owners and finalizers are not even parsed.
    pub(super) fn read(object: &Object) -> Self {
        #[derive(Deserialize)]
        struct OnlyMetadata {
            metadata: Metadata,
        }
        let has = |member: &str| memmem::find(&object.json, member.as_bytes()).is_some();
        if !has("\"ownerReferences\"") && !has("\"finalizers\"") {
            return Self::default();
        }
        match serde_json::from_slice::<OnlyMetadata>(&object.json) {
            Ok(OnlyMetadata { metadata }) => metadata,
            Err(error) => {
                tracing::warn!(name = %object.key, %error, "object not understood; never collecting it");
                Self::default()
            }
        }
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub(super) fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|other| other == finalizer)
    }

    /// Being deleted after its dependents.
    pub(super) fn awaits_dependents(&self) -> bool {
        self.is_deleting() && self.has_finalizer(FOREGROUND)
    }

    pub(super) fn orphans_dependents(&self) -> bool {
        self.is_deleting() && self.has_finalizer(ORPHAN)
    }

    fn matters(&self) -> bool {
        !self.owner_references.is_empty() || self.awaits_dependents() || self.orphans_dependents()
    }
}

/// An object in the graph.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) info: &'static ResourceInfo,
    pub(super) key: ObjectKey,
    pub(super) metadata: Metadata,
}

impl Node {
    pub(super) fn blocks(&self, owner: &str) -> bool {
        let mut references = self.metadata.owner_references.iter();
        references.any(|reference| reference.uid == owner && reference.block_owner_deletion)
    }
}

/// The graph. Uids are those of objects that exist, or of owners that may not.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<CompactString, Arc<Node>>,
    dependents: HashMap<CompactString, BTreeSet<CompactString>>,
}

impl Graph {
    pub(super) fn node(&self, uid: &str) -> Option<Arc<Node>> {
        self.nodes.get(uid).cloned()
    }

    pub(super) fn dependents(&self, owner: &str) -> Vec<(CompactString, Arc<Node>)> {
        let uids = self.dependents.get(owner).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone())))
            .collect()
    }

    /// Takes over an object's state; answers with the uids that have to be looked at.
    pub(super) fn set(&mut self, info: &'static ResourceInfo, object: &Object) -> Vec<CompactString> {
        let metadata = Metadata::read(object);
        let old = self.nodes.get(&object.uid).cloned();
        if old.as_ref().is_some_and(|old| old.metadata == metadata) {
            return Vec::new();
        }
        let awaited = old.as_ref().is_some_and(|old| old.metadata.awaits_dependents());
        let mut awake = old.map(|old| self.unlink(&object.uid, &old)).unwrap_or_default();
        if !metadata.matters() {
            return awake;
        }
        for reference in &metadata.owner_references {
            let dependents = self.dependents.entry(reference.uid.as_str().into()).or_default();
            dependents.insert(object.uid.clone());
        }
        awake.push(object.uid.clone());
        if metadata.awaits_dependents() && !awaited {
            // They are to go, blocking or not.
            awake.extend(self.dependents.get(&object.uid).into_iter().flatten().cloned());
        }
        let key = object.key.clone();
        self.nodes
            .insert(object.uid.clone(), Arc::new(Node { info, key, metadata }));
        awake
    }

    /// Removes an object; answers with the uids that have to be looked at: its dependents, and owners waiting for it.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<CompactString> {
        let mut awake: Vec<CompactString> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        if let Some(node) = self.nodes.get(uid).cloned() {
            awake.extend(self.unlink(uid, &node));
        }
        awake
    }

    /// The dependents of an owner of which only kind and name are known.
    pub(super) fn dependents_of_name(&self, kind: &str, key: &ObjectKey) -> Vec<CompactString> {
        let names_it = |node: &Node| {
            let mut references = node.metadata.owner_references.iter();
            references.any(|reference| reference.kind == kind && key.name == reference.name)
        };
        let found = self.nodes.iter().filter(|(_, node)| names_it(node));
        found.map(|(uid, _)| uid.clone()).collect()
    }

    fn unlink(&mut self, uid: &str, node: &Node) -> Vec<CompactString> {
        self.nodes.remove(uid);
        if self.nodes.capacity() > LARGE && self.nodes.len() < self.nodes.capacity() / 8 {
            self.nodes.shrink_to_fit();
        }
        let mut waiting = Vec::new();
        for reference in &node.metadata.owner_references {
            let owner = reference.uid.as_str();
            if let Some(dependents) = self.dependents.get_mut(owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(owner);
                }
            }
            if self
                .nodes
                .get(owner)
                .is_some_and(|owner| owner.metadata.awaits_dependents())
            {
                waiting.push(owner.into());
            }
        }
        waiting
    }
}
