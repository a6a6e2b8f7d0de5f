//! Feeding the proxy from the shared informers.

use cloudeck_client::informer::Change as Seen;
use cloudeck_client::{Informer, InformerConfig, Subscription};
use cloudeck_task::Scope;
use tracing::debug;

use crate::decode;
use crate::model::Change;
use crate::service::Proxy;
use crate::view::ObjectKey;

/// What the Services' informer has to follow.
pub fn services() -> InformerConfig {
    InformerConfig::all("", "v1", "services")
}

/// What the EndpointSlices' informer has to follow.
pub fn endpoint_slices() -> InformerConfig {
    InformerConfig::all("discovery.k8s.io", "v1", "endpointslices")
}

impl Proxy {
    /// Tells the proxy everything that these informers see, and when they have seen all.
    pub fn follow(&self, services: Informer, endpoint_slices: Informer, scope: &Scope) {
        let follower = Follower {
            proxy: self.clone(),
            service_changes: services.subscribe(),
            slice_changes: endpoint_slices.subscribe(),
        };
        scope.spawn_until_shutdown("service-proxy-follower", async move {
            services.synced().await;
            endpoint_slices.synced().await;
            follower.run().await;
        });
    }
}

struct Follower {
    proxy: Proxy,
    service_changes: Subscription,
    slice_changes: Subscription,
}

impl Follower {
    async fn run(mut self) {
        if !self.tell_all().await {
            debug!("service proxy ended before it knew everything");
            return;
        }
        loop {
            let change = tokio::select! {
                seen = self.service_changes.next() => service_change(&seen),
                seen = self.slice_changes.next() => slice_change(&seen),
            };
            if !self.proxy.tell(change).await {
                return;
            }
        }
    }

    /// What is there already, and that this was all.
    async fn tell_all(&mut self) -> bool {
        while let Some(seen) = self.service_changes.try_next() {
            if !self.proxy.tell(service_change(&seen)).await {
                return false;
            }
        }
        while let Some(seen) = self.slice_changes.try_next() {
            if !self.proxy.tell(slice_change(&seen)).await {
                return false;
            }
        }
        self.proxy.tell(Change::Synced).await
    }
}

fn service_change(seen: &Seen) -> Change {
    let key = ObjectKey::new(&seen.key.namespace, &seen.key.name);
    Change::Service(key, seen.new.as_deref().and_then(decode::service_view))
}

fn slice_change(seen: &Seen) -> Change {
    let key = ObjectKey::new(&seen.key.namespace, &seen.key.name);
    Change::EndpointSlice(key, seen.new.as_deref().and_then(decode::endpoint_slice_view))
}
