//! Gives every namespace its service account `default`.
//!
//! State: namespaces that live and the service accounts in them. It creates; it never changes or deletes.
//!
//! Source: `pkg/controller/serviceaccount/serviceaccounts_controller.go`.

use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Reason, Status, value};
use cloudeck_task::Scope;

use crate::kinds;
use crate::namespace;
use crate::view::{View, Whole};
use crate::write;

const NAME: &str = "default";
const WORKERS: usize = 1;

#[derive(Clone)]
pub(crate) struct ServiceAccounts {
    client: Client,
    namespaces: View<Whole>,
    accounts: View<Whole>,
    /// Namespaces.
    queue: WorkQueue<ObjectKey>,
}

impl ServiceAccounts {
    pub(crate) fn new(client: Client, namespaces: &View<Whole>, accounts: &View<Whole>) -> Self {
        let queue = WorkQueue::new();
        let (by_namespace, by_account) = (queue.clone(), queue.clone());
        namespaces.on_change(move |update| by_namespace.add(update.key.clone()));
        accounts.on_change(move |update| {
            if update.key.name == NAME && update.new.is_none() {
                by_account.add(ObjectKey::new("", &update.key.namespace));
            }
        });
        Self {
            client,
            namespaces: namespaces.clone(),
            accounts: accounts.clone(),
            queue,
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, "service-account-controller", WORKERS, queue, move |key| {
            let this = Arc::clone(&this);
            async move { this.reconcile(&key).await }
        });
    }

    async fn reconcile(&self, namespace: &ObjectKey) -> Result<Requeue, Status> {
        let living = self
            .namespaces
            .get(namespace)
            .is_some_and(|it| namespace::is_active(&it));
        let present = self
            .accounts
            .get(&ObjectKey::new(&namespace.name, NAME))
            .is_some();
        if !living || present {
            return Ok(Requeue::OnChange);
        }
        let account = value!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": (NAME), "namespace": (namespace.name.clone())}
        });
        let resource = kinds::service_accounts();
        match self.client.create(&resource, &namespace.name, &account).await {
            Err(status) if status.reason == Reason::AlreadyExists => {}
            Err(status) if write::is_namespace_terminating(&status) => {}
            outcome => drop(outcome?),
        }
        Ok(Requeue::OnChange)
    }
}
