//! Publishes the certificate that signs the API server's to every namespace, as the config map `kube-root-ca.crt`.
//!
//! State: namespaces that live and that one config map in each. Other members of its data are removed, as upstream does.
//!
//! Source: `pkg/controller/certificates/rootcacertpublisher`.

use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Reason, Status, Value, value};
use cloudeck_task::Scope;

use crate::kinds;
use crate::namespace;
use crate::view::{Facts, View, Whole};
use crate::write;

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
/// Upstream's text: clients compare config maps.
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                           endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                           guaranteed across distributions of Kubernetes clusters.";
const WORKERS: usize = 1;

#[derive(Clone)]
pub(crate) struct RootCa {
    client: Client,
    certificate: Arc<str>,
    namespaces: View<Whole>,
    config_maps: View<Whole>,
    /// Namespaces.
    queue: WorkQueue<ObjectKey>,
}

impl RootCa {
    pub(crate) fn new(
        client: Client,
        certificate: &str,
        namespaces: &View<Whole>,
        config_maps: &View<Whole>,
    ) -> Self {
        let queue = WorkQueue::new();
        let (by_namespace, by_map) = (queue.clone(), queue.clone());
        namespaces.on_change(move |update| by_namespace.add(update.key.clone()));
        config_maps.on_change(move |update| {
            if update.key.name == NAME {
                by_map.add(ObjectKey::new("", &update.key.namespace));
            }
        });
        Self {
            client,
            certificate: certificate.into(),
            namespaces: namespaces.clone(),
            config_maps: config_maps.clone(),
            queue,
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, "root-ca-cert-publisher", WORKERS, queue, move |key| {
            let this = Arc::clone(&this);
            async move { this.reconcile(&key).await }
        });
    }

    async fn reconcile(&self, namespace: &ObjectKey) -> Result<Requeue, Status> {
        if !self
            .namespaces
            .get(namespace)
            .is_some_and(|it| namespace::is_active(&it))
        {
            return Ok(Requeue::OnChange);
        }
        let present = self.config_maps.get(&ObjectKey::new(&namespace.name, NAME));
        let present = present.map(|map| map.object().tree());
        match decide(present, &namespace.name, &self.certificate) {
            Action::None => {}
            Action::Create(map) => {
                match self
                    .client
                    .create(&kinds::config_maps(), &namespace.name, &map)
                    .await
                {
                    Err(status) if status.reason == Reason::AlreadyExists => {}
                    Err(status) if write::is_namespace_terminating(&status) => {}
                    outcome => drop(outcome?),
                }
            }
            Action::Update(map) => drop(write::update(&self.client, &kinds::config_maps(), "", &map).await?),
        }
        Ok(Requeue::OnChange)
    }
}

#[derive(Debug, PartialEq)]
enum Action {
    None,
    Create(Value),
    Update(Value),
}

fn decide(present: Option<Value>, namespace: &str, certificate: &str) -> Action {
    let data = value!({"ca.crt": (certificate)});
    let Some(mut map) = present else {
        return Action::Create(value!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": (NAME), "namespace": (namespace), "annotations": {(DESCRIPTION_KEY): (DESCRIPTION)}
            },
            "data": (data)
        }));
    };
    let annotation = ["metadata", "annotations", DESCRIPTION_KEY];
    if map.at(&["data"]) == Some(&data) && map.str_at(&annotation).is_some_and(|text| !text.is_empty()) {
        return Action::None;
    }
    map.set_at(&["data"], data);
    map.set_at(&annotation, DESCRIPTION);
    Action::Update(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_map_is_created_and_a_changed_one_put_right() {
        let Action::Create(map) = decide(None, "ns", "pem") else {
            panic!("not created")
        };
        assert_eq!(decide(Some(map.clone()), "ns", "pem"), Action::None);
        let mut changed = map.clone();
        changed.set_at(&["data", "more"], "x");
        assert_eq!(decide(Some(changed), "ns", "pem"), Action::Update(map.clone()));
        assert!(matches!(decide(Some(map), "ns", "other"), Action::Update(_)));
    }
}
