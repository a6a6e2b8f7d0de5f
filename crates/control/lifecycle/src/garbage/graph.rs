//! Who owns whom, as far as the caches tell. Pure.
//!
//! Of an object stands here what collection needs: its place, its owners, and the orders that its finalizers give.
//! Owners that are not here leave no trace but their dependents.

use std::collections::{BTreeSet, HashMap};

use cloudeck_machinery::{ObjectKey, Value};

/// An object's identity; an `Arc` because each stands in several places.
pub(crate) type Uid = std::sync::Arc<str>;

pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerRef {
    pub(crate) uid: Uid,
    pub(crate) api_version: Box<str>,
    pub(crate) kind: Box<str>,
    pub(crate) name: Box<str>,
    pub(crate) blocks: bool,
}

/// What is kept of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Index of its kind among the caches.
    pub(crate) kind: u16,
    pub(crate) key: ObjectKey,
    pub(crate) owners: Box<[OwnerRef]>,
    pub(crate) deleting: bool,
    pub(crate) foreground: bool,
    pub(crate) orphan: bool,
}

impl Item {
    pub(crate) fn read(kind: u16, key: ObjectKey, tree: &Value) -> Self {
        let mut finalizers = tree
            .items_at(&["metadata", "finalizers"])
            .iter()
            .filter_map(Value::as_str);
        let deleting = tree.at(&["metadata", "deletionTimestamp"]).is_some();
        let (mut foreground, mut orphan) = (false, false);
        for name in &mut finalizers {
            foreground |= name == FOREGROUND;
            orphan |= name == ORPHAN;
        }
        Self {
            kind,
            key,
            owners: owners(tree),
            deleting,
            foreground,
            orphan,
        }
    }

    /// It waits until the dependents that block it are gone.
    pub(crate) fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    /// It waits until its dependents are set free.
    pub(crate) fn sets_free(&self) -> bool {
        self.deleting && self.orphan
    }
}

pub(crate) fn owners(tree: &Value) -> Box<[OwnerRef]> {
    let read = |it: &Value| {
        let text = |member: &str| it.str_at(&[member]).unwrap_or_default();
        OwnerRef {
            uid: text("uid").into(),
            api_version: text("apiVersion").into(),
            kind: text("kind").into(),
            name: text("name").into(),
            blocks: it.bool_at(&["blockOwnerDeletion"]).unwrap_or(false),
        }
    };
    tree.items_at(&["metadata", "ownerReferences"])
        .iter()
        .map(read)
        .collect()
}

#[derive(Debug, Default)]
pub(crate) struct Graph {
    items: HashMap<Uid, Item>,
    /// By the owner's uid, whether the owner is here or not.
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    pub(crate) fn get(&self, uid: &str) -> Option<&Item> {
        self.items.get(uid)
    }

    pub(crate) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Uid> {
        self.dependents.get(uid).into_iter().flatten()
    }

    pub(crate) fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.contains_key(uid)
    }

    /// The dependents that an owner in foreground deletion waits for.
    pub(crate) fn blocking(&self, uid: &str) -> Vec<Uid> {
        let blocks = |dependent: &&Uid| {
            let owners = self.items.get(&***dependent).map(|item| item.owners.iter());
            owners
                .into_iter()
                .flatten()
                .any(|owner| &*owner.uid == uid && owner.blocks)
        };
        self.dependents(uid).filter(blocks).cloned().collect()
    }

    /// Those that name an owner of that kind and place.
    pub(crate) fn naming(&self, kind: &str, owner: &ObjectKey) -> Vec<Uid> {
        let names = |item: &Item| {
            let mut owners = item.owners.iter();
            owners.any(|it| &*it.kind == kind && *it.name == *owner.name)
                && (owner.namespace.is_empty() || owner.namespace == item.key.namespace)
        };
        let all = self.items.iter().filter(|(_, item)| names(item));
        all.map(|(uid, _)| uid.clone()).collect()
    }

    /// Takes in an object as it is now. Answers with the uids that have to be looked at because of it.
    pub(crate) fn set(&mut self, uid: &str, item: Item) -> Vec<Uid> {
        let uid: Uid = self
            .items
            .get_key_value(uid)
            .map_or_else(|| uid.into(), |(uid, _)| uid.clone());
        let old = self.items.insert(uid.clone(), item);
        let mut look = Vec::new();
        let old_owners = old.as_ref().map_or(&[][..], |old| &old.owners).to_vec();
        let item = self.items[&uid].clone();
        for gone in old_owners
            .iter()
            .filter(|it| !item.owners.iter().any(|new| new.uid == it.uid))
        {
            self.unlink(&gone.uid, &uid);
        }
        for owner in &item.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        look.extend(self.owners_set_free(&old_owners, &item.owners));
        let was_waiting = old.as_ref().is_some_and(Item::waits_for_dependents);
        let was_freeing = old.as_ref().is_some_and(Item::sets_free);
        let starts_waiting = item.waits_for_dependents() && !was_waiting;
        if starts_waiting || item.sets_free() && !was_freeing || self.is_doubtful(&item, &old_owners) {
            look.push(uid.clone());
        }
        if starts_waiting {
            look.extend(self.dependents(&uid).cloned());
        }
        look
    }

    /// All objects that have to be looked at when nothing is known of what came before.
    pub(crate) fn doubts(&self) -> Vec<Uid> {
        let doubtful =
            |item: &Item| item.waits_for_dependents() || item.sets_free() || self.is_doubtful(item, &[]);
        let all = self.items.iter().filter(|(_, item)| doubtful(item));
        all.map(|(uid, _)| uid.clone()).collect()
    }

    /// Takes an object out. Answers with the uids that have to be looked at because of it.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let Some((uid, item)) = self.items.remove_entry(uid) else {
            return Vec::new();
        };
        for owner in &item.owners {
            self.unlink(&owner.uid, &uid);
        }
        let mut look: Vec<Uid> = self.dependents(&uid).cloned().collect();
        look.extend(self.waiting_owners(&item.owners));
        look
    }

    /// Whether an owner that is new to the object is not known to be there, or is about to go.
    fn is_doubtful(&self, item: &Item, before: &[OwnerRef]) -> bool {
        let added = item
            .owners
            .iter()
            .filter(|it| !before.iter().any(|old| old.uid == it.uid));
        let mut states = added.map(|owner| (owner, self.items.get(&owner.uid)));
        states.any(|(owner, found)| {
            found.is_none_or(|found| found.waits_for_dependents() || !reaches(item, owner, found))
        })
    }

    /// An owner that is known to live where the object's reference to it cannot reach.
    pub(crate) fn foreign_owner(&self, item: &Item) -> Option<OwnerRef> {
        let foreign = |owner: &&OwnerRef| {
            let found = self.items.get(&owner.uid);
            found.is_some_and(|found| !reaches(item, owner, found))
        };
        item.owners.iter().find(foreign).cloned()
    }

    fn unlink(&mut self, owner: &Uid, dependent: &Uid) {
        if let Some(set) = self.dependents.get_mut(owner) {
            set.remove(dependent);
            if set.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// Owners in foreground deletion that no longer have to wait for a dependent.
    fn owners_set_free(&self, old: &[OwnerRef], new: &[OwnerRef]) -> Vec<Uid> {
        let still = |uid: &Uid| new.iter().any(|it| it.uid == *uid && it.blocks);
        let freed: Vec<_> = old
            .iter()
            .filter(|it| it.blocks && !still(&it.uid))
            .cloned()
            .collect();
        self.waiting_owners(&freed)
    }

    fn waiting_owners(&self, owners: &[OwnerRef]) -> Vec<Uid> {
        let waits = |uid: &Uid| self.items.get(uid).is_some_and(Item::waits_for_dependents);
        owners
            .iter()
            .map(|owner| owner.uid.clone())
            .filter(waits)
            .collect()
    }
}

/// Whether the reference leads to what was found: a namespaced owner has to live in the object's namespace.
fn reaches(item: &Item, owner: &OwnerRef, found: &Item) -> bool {
    let namespace = &found.key.namespace;
    *owner.name == *found.key.name && (namespace.is_empty() || *namespace == item.key.namespace)
}
