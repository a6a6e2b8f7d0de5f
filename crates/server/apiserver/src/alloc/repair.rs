//! Puts back the IPAddress of a service that somebody deletes: else the address would be given twice.
//!
//! Source: `pkg/registry/core/service/ipallocator/controller`. Upstream also removes addresses without a service; here
//! both are written in one transaction, so there are none.

use std::time::Duration;

use bytes::Bytes;
use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Request, WatchEvent};
use cloudeck_engine::Txn;
use cloudeck_machinery::{GroupVersionResource, Object, Status};
use futures_util::StreamExt as _;

use super::address;
use super::service::Holdings;
use crate::registry::commit::{self, Expect, Refusal};
use crate::server::{Core, Server};

/// How long to wait when addresses cannot be watched or written.
const RETRY: Duration = Duration::from_secs(1);

/// Looks at all services once, then at the one whose address is deleted, until the server ends.
pub(crate) async fn keep_addresses(server: Server) {
    let client = server.client_as(LocalIdentity::api_server(), "kube-apiserver");
    let addresses = GroupVersionResource::new("networking.k8s.io", "v1", "ipaddresses");
    loop {
        let outcome = async {
            let mut events = client.watch(Request::watch(&addresses, "")).await?;
            restore_all(&server.core).await?;
            while let Some(event) = events.next().await {
                match event {
                    WatchEvent::Deleted(address) => restore_of(&server.core, &address).await?,
                    WatchEvent::Error(status) => return Err(status),
                    _ => {}
                }
            }
            Ok::<_, Status>(())
        };
        if let Err(error) = outcome.await {
            tracing::debug!(%error, "keeping the addresses of services failed; trying again");
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn restore_all(core: &Core) -> Result<(), Status> {
    let services = core.stored("", "services");
    let (all, _) = services
        .cache
        .snapshot("", &core.frontier, None, usize::MAX, |_| true);
    for service in &all.objects {
        restore(core, service).await?;
    }
    Ok(())
}

/// Of the service that the deleted address belonged to.
async fn restore_of(core: &Core, address: &Object) -> Result<(), Status> {
    let tree = address.tree();
    let parent = |field| tree.str_at(&["spec", "parentRef", field]).unwrap_or_default();
    if (parent("group"), parent("resource")) != ("", "services") {
        return Ok(());
    }
    match core
        .stored("", "services")
        .cache
        .get(parent("namespace"), parent("name"))
    {
        Some(service) => restore(core, &service).await,
        None => Ok(()),
    }
}

async fn restore(core: &Core, service: &Object) -> Result<(), Status> {
    let (namespace, name) = (&service.key.namespace, &service.key.name);
    for text in Holdings::of(&service.tree()).addresses {
        if text.parse().is_ok_and(|address| address::is_taken(core, address)) {
            continue;
        }
        let key = Bytes::from(core.stored("", "services").key(namespace, name));
        let txn = commit::expecting(Txn::new(), &key, Expect::At(service.revision));
        match commit::run(core, address::take(core, txn, &text, namespace, name)).await {
            Ok(_) => {
                tracing::warn!(%namespace, %name, address = text, "a service's address was not allocated; put back");
            }
            // The service has changed, and with it what it holds; or somebody else was faster.
            Err(Refusal::Changed) => {}
            Err(Refusal::Status(status)) => return Err(status),
        }
    }
    Ok(())
}
