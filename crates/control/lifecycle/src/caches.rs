//! One informer for each storage kind that can be deleted, for all controllers here.
//!
//! In this process an informer holds pointers to the server's own objects, so all of them together cost a map of keys.
//! The garbage collector needs every kind; the others take theirs from the same set.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_client::{Change, Client, Informer, InformerConfig};
use cloudeck_machinery::GroupVersionResource;
use cloudeck_schema::ResourceInfo;
use cloudeck_task::Scope;

/// How many changes are taken in before other tasks get their turn.
const CHANGES_PER_TURN: usize = 64;

/// A deletable kind and its objects.
#[derive(Clone)]
pub(crate) struct Cache {
    pub(crate) kind: &'static ResourceInfo,
    pub(crate) resource: GroupVersionResource,
    pub(crate) informer: Informer,
}

/// The caches of all deletable kinds. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Caches {
    all: Arc<[Cache]>,
}

impl Caches {
    pub(crate) fn start(client: &Client, scope: &Scope) -> Self {
        let start = |kind: &'static ResourceInfo| Cache {
            kind,
            resource: GroupVersionResource::new(kind.group, kind.version, kind.plural),
            informer: Informer::start(
                scope,
                client.clone(),
                InformerConfig::all(kind.group, kind.version, kind.plural),
            ),
        };
        Self {
            all: deletable_kinds().into_iter().map(start).collect(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Cache> {
        self.all.iter()
    }

    /// The informer of a kind that is known to be served.
    pub(crate) fn informer(&self, resource: &GroupVersionResource) -> Informer {
        let found = self.iter().find(|cache| cache.resource == *resource);
        found
            .map(|cache| cache.informer.clone())
            .expect("the kinds named in `kinds` are served and deletable")
    }

    pub(crate) async fn synced(&self) {
        for cache in self.iter() {
            cache.informer.synced().await;
        }
    }
}

/// One view of each storage kind that can be listed, watched and deleted.
fn deletable_kinds() -> Vec<&'static ResourceInfo> {
    let mut kinds: BTreeMap<(&str, &str), &'static ResourceInfo> = BTreeMap::new();
    for kind in cloudeck_schema::resources() {
        let usable = ["list", "watch", "delete"].iter().all(|verb| kind.has_verb(verb));
        if !usable {
            continue;
        }
        let storage = &kind.storage;
        let rank = |it: &ResourceInfo| (it.group == storage.group, it.version == storage.version);
        let entry = kinds.entry((storage.group, storage.plural)).or_insert(kind);
        if rank(kind) > rank(entry) {
            *entry = kind;
        }
    }
    kinds.into_values().collect()
}

/// Hands every change of an informer to `take`, which puts keys into queues and returns at once.
pub(crate) fn follow(
    scope: &Scope,
    name: &'static str,
    informer: &Informer,
    mut take: impl FnMut(Change) + Send + 'static,
) {
    let mut changes = informer.subscribe();
    scope.spawn_until_shutdown(name, async move {
        let mut taken = 0;
        loop {
            take(changes.next().await);
            taken += 1;
            if taken % CHANGES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_storage_kind_is_watched_once() {
        let kinds = deletable_kinds();
        let named = |plural: &str| kinds.iter().filter(|kind| kind.plural == plural).count();
        assert_eq!(named("pods"), 1);
        assert_eq!(named("events"), 1);
        assert_eq!(named("horizontalpodautoscalers"), 1);
        assert_eq!(named("tokenreviews"), 0);
        let events = kinds.iter().find(|kind| kind.plural == "events").unwrap();
        assert_eq!((events.group, events.version), ("", "v1"));
    }
}
