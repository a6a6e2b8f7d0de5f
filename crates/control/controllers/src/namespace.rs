//! The end of namespaces: everything in them is deleted, pods first, then they are let go.
//!
//! State: namespaces that are being deleted and still hold the finalizer `kubernetes`. What remains is told in their
//! conditions. Nothing is polled: the end of any object in such a namespace brings it back into the queue.
//!
//! Source: `pkg/controller/namespace`.

mod conditions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Body, Client, Params, Request, Verb};
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Status, Value, value};
use cloudeck_schema::ResourceInfo;
use cloudeck_task::Scope;

use crate::clock::Clock;
use crate::everything::{Everything, deletable, resource};
use crate::kinds;
use crate::view::{Facts, View, Whole};
use crate::write;

const FINALIZER: &str = "kubernetes";
/// When content remains and nothing of it ends: a finalizer that nobody serves, or an object that came in late.
const NEXT_LOOK: Duration = Duration::from_secs(15);
const WORKERS: usize = 2;

/// Whether the namespace lives.
pub(crate) fn is_active(namespace: &Whole) -> bool {
    let tree = namespace.object().tree();
    tree.at(&["metadata", "deletionTimestamp"]).is_none()
        && tree.str_at(&["status", "phase"]) != Some("Terminating")
}

#[derive(Clone)]
pub(crate) struct Namespaces {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    namespaces: View<Whole>,
    queue: WorkQueue<ObjectKey>,
    clock: Clock,
}

/// What is left in a namespace.
#[derive(Debug, Default, PartialEq, Eq)]
struct Remains {
    /// How many of `resource.group`.
    objects: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
    /// What could not be deleted.
    errors: Vec<String>,
}

impl Namespaces {
    /// Registers with the view and the informers; [`Namespaces::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        namespaces: &View<Whole>,
        everything: &Everything,
        clock: Clock,
    ) -> Self {
        let inner = Arc::new(Inner {
            client,
            namespaces: namespaces.clone(),
            queue: WorkQueue::new(),
            clock,
        });
        let queue = inner.queue.clone();
        namespaces.on_change(move |update| {
            // Not for its own word on what remains: while lists fail that would change with every look.
            let begins = update.old.is_none_or(|namespace| is_active(namespace));
            if begins && update.new.is_some_and(|namespace| !is_active(namespace)) {
                queue.add(update.key.clone());
            }
        });
        let (queue, known) = (inner.queue.clone(), namespaces.clone());
        everything.on_change(move |_, change| {
            if change.new.is_some() || change.key.namespace.is_empty() {
                return;
            }
            let key = ObjectKey::new("", &change.key.namespace);
            if known.get(&key).is_some_and(|namespace| !is_active(&namespace)) {
                queue.add(key);
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "namespace-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(namespace) = self.namespaces.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let mut tree = namespace.object().tree();
        let held = |tree: &Value| {
            let finalizers = tree.items_at(&["spec", "finalizers"]);
            finalizers
                .iter()
                .any(|finalizer| finalizer.as_str() == Some(FINALIZER))
        };
        if tree.at(&["metadata", "deletionTimestamp"]).is_none() || !held(&tree) {
            return Ok(Requeue::OnChange);
        }
        let remains = self.empty(&key.name).await;
        if conditions::update(&mut tree, &remains, (self.clock)()) {
            let written = write::update(&self.client, &kinds::namespaces(), "status", &tree).await?;
            tree = written.tree();
        }
        if !remains.is_empty() {
            return Ok(Requeue::After(NEXT_LOOK));
        }
        let mut finalizers = tree.items_at(&["spec", "finalizers"]).to_vec();
        finalizers.retain(|finalizer| finalizer.as_str() != Some(FINALIZER));
        tree.set_at(&["spec", "finalizers"], finalizers);
        let outcome = write::update(&self.client, &kinds::namespaces(), "finalize", &tree).await;
        write::absent_is_fine(outcome.map(|_| ()))?;
        Ok(Requeue::OnChange)
    }

    /// Deletes everything; while there are pods, pods only: they may need the rest to end well.
    async fn empty(&self, namespace: &str) -> Remains {
        let mut remains = Remains::default();
        let namespaced = || deletable().filter(|info| info.namespaced);
        let is_pods = |info: &&ResourceInfo| info.group.is_empty() && info.plural == "pods";
        for info in namespaced().filter(is_pods) {
            self.empty_of(info, namespace, &mut remains).await;
        }
        if !remains.objects.is_empty() {
            return remains;
        }
        for info in namespaced().filter(|info| !is_pods(info)) {
            self.empty_of(info, namespace, &mut remains).await;
        }
        remains
    }

    async fn empty_of(&self, info: &ResourceInfo, namespace: &str, remains: &mut Remains) {
        if let Err(status) = self.try_empty_of(info, namespace, remains).await {
            remains.errors.push(status.message);
        }
    }

    async fn try_empty_of(
        &self,
        info: &ResourceInfo,
        namespace: &str,
        remains: &mut Remains,
    ) -> Result<(), Status> {
        let resource = resource(info);
        let present = self.client.list(&resource, namespace, Params::default()).await?;
        if present.items.is_empty() {
            return Ok(());
        }
        let background = value!({"propagationPolicy": "Background"});
        if info.has_verb("deletecollection") {
            let mut request = Request::new(Verb::DeleteCollection, &resource, namespace, "");
            request.body = Body::json(cloudeck_machinery::json::to_vec(&background));
            self.client.send(request).await?;
        } else {
            for object in &present.items {
                write::delete_with(&self.client, &resource, &object.key, &background).await?;
            }
        }
        let left = self.client.list(&resource, namespace, Params::default()).await?;
        for object in &left.items {
            let name = format!("{}.{}", info.plural, info.group);
            *remains.objects.entry(name).or_default() += 1;
            for finalizer in object.tree().items_at(&["metadata", "finalizers"]) {
                let name = finalizer.as_str().unwrap_or_default().to_owned();
                *remains.finalizers.entry(name).or_default() += 1;
            }
        }
        Ok(())
    }
}

impl Remains {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.errors.is_empty()
    }
}
