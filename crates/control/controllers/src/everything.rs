//! Every kind that can be deleted, watched: for the garbage collector and the end of namespaces.
//!
//! Of a storage that is served in several versions the preferred one is watched. Events are left out, as upstream does:
//! they own nothing, nobody owns them, and they end by their age.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use cloudeck_client::{Change, Client, Informer, InformerConfig};
use cloudeck_machinery::GroupVersionResource;
use cloudeck_schema::ResourceInfo;
use cloudeck_task::Scope;
use tokio::sync::watch;

type Handler = Box<dyn Fn(&'static ResourceInfo, &Change) + Send + Sync>;

/// The informers of the process: one for each resource, made when first asked for.
pub(crate) struct Informers {
    client: Client,
    scope: Scope,
    known: Mutex<BTreeMap<GroupVersionResource, Informer>>,
}

impl Informers {
    pub(crate) fn new(client: Client, scope: &Scope) -> Self {
        Self {
            client,
            scope: scope.clone(),
            known: Mutex::default(),
        }
    }

    pub(crate) fn of(&self, resource: GroupVersionResource) -> Informer {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let config = InformerConfig {
                resource: resource.clone(),
                namespace: String::new(),
                label_selector: String::new(),
                field_selector: String::new(),
            };
            Informer::start(&self.scope, self.client.clone(), config)
        };
        known.entry(resource.clone()).or_insert_with(start).clone()
    }
}

/// The resources whose objects can be deleted and watched, one view of each storage.
pub(crate) fn deletable() -> impl Iterator<Item = &'static ResourceInfo> {
    let mut seen = HashSet::new();
    cloudeck_schema::resources().filter(move |info| {
        let verbs = ["delete", "list", "watch"].iter().all(|verb| info.has_verb(verb));
        verbs && seen.insert(info.storage)
    })
}

pub(crate) fn resource(info: &ResourceInfo) -> GroupVersionResource {
    GroupVersionResource::new(info.group, info.version, info.plural)
}

fn is_watched(info: &ResourceInfo) -> bool {
    info.plural != "events"
}

/// Follows all of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Everything {
    inner: Arc<Inner>,
}

struct Inner {
    informers: Vec<(&'static ResourceInfo, Informer)>,
    handlers: Mutex<Vec<Handler>>,
    /// How many kinds have been read in whole.
    filled: watch::Sender<usize>,
}

impl Everything {
    pub(crate) fn new(informers: &Informers) -> Self {
        let all = deletable().filter(|info| is_watched(info));
        let informers = all.map(|info| (info, informers.of(resource(info)))).collect();
        Self {
            inner: Arc::new(Inner {
                informers,
                handlers: Mutex::default(),
                filled: watch::Sender::new(0),
            }),
        }
    }

    /// The informer of a kind by the names that owner references use, whatever version they name.
    pub(crate) fn by_kind(&self, group: &str, kind: &str) -> Option<&(&'static ResourceInfo, Informer)> {
        let mut all = self.inner.informers.iter();
        all.find(|(info, _)| info.group == group && info.kind == kind)
    }

    /// The informers of all kinds.
    pub(crate) fn informers(&self) -> impl Iterator<Item = &(&'static ResourceInfo, Informer)> {
        self.inner.informers.iter()
    }

    /// Adds a handler; all are added before [`Everything::follow`].
    pub(crate) fn on_change(&self, handler: impl Fn(&'static ResourceInfo, &Change) + Send + Sync + 'static) {
        self.handlers().push(Box::new(handler));
    }

    pub(crate) fn follow(&self, scope: &Scope) {
        // From here on nobody adds any, so the tasks share them without a lock.
        let handlers: Arc<[Handler]> = std::mem::take(&mut *self.handlers()).into();
        for &(info, ref informer) in &self.inner.informers {
            let (inner, handlers, informer) =
                (Arc::clone(&self.inner), Arc::clone(&handlers), informer.clone());
            scope.spawn_until_shutdown("follower of everything", async move {
                inner.run(info, &informer, &handlers).await;
            });
        }
    }

    /// Resolves when everything that was there at the start has been seen.
    pub(crate) async fn filled(&self) {
        let all = self.inner.informers.len();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self
            .inner
            .filled
            .subscribe()
            .wait_for(|filled| *filled == all)
            .await;
    }

    fn handlers(&self) -> std::sync::MutexGuard<'_, Vec<Handler>> {
        self.inner.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    async fn run(&self, info: &'static ResourceInfo, informer: &Informer, handlers: &[Handler]) {
        let tell = |change: &Change| handlers.iter().for_each(|handler| handler(info, change));
        informer.synced().await;
        let mut changes = informer.subscribe();
        while let Some(change) = changes.try_next() {
            tell(&change);
        }
        self.filled.send_modify(|filled| *filled += 1);
        loop {
            tell(&changes.next().await);
        }
    }
}
