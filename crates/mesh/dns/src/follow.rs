//! Feeding the zone from the shared informers.

use cloudeck_client::informer::Change;
use cloudeck_client::{Informer, InformerConfig};
use cloudeck_task::Scope;

use crate::service::Dns;
use crate::zone::{ServiceRecord, SliceRecord};

/// What the Services' informer has to follow.
pub fn services() -> InformerConfig {
    InformerConfig::all("", "v1", "services")
}

/// What the EndpointSlices' informer has to follow.
pub fn endpoint_slices() -> InformerConfig {
    InformerConfig::all("discovery.k8s.io", "v1", "endpointslices")
}

impl Dns {
    /// Keeps the names as these informers see them. When both have told what is there, the server is
    /// [ready](Dns::ready).
    pub fn follow(&self, services: Informer, endpoint_slices: Informer, scope: &Scope) {
        let dns = self.clone();
        scope.spawn_until_shutdown("dns-follower", async move {
            let mut service_changes = services.subscribe();
            let mut slice_changes = endpoint_slices.subscribe();
            services.synced().await;
            endpoint_slices.synced().await;
            while let Some(change) = service_changes.try_next() {
                dns.set_service(change);
            }
            while let Some(change) = slice_changes.try_next() {
                dns.set_slice(change);
            }
            dns.set_ready();
            loop {
                tokio::select! {
                    change = service_changes.next() => dns.set_service(change),
                    change = slice_changes.next() => dns.set_slice(change),
                }
            }
        });
    }

    fn set_service(&self, change: Change) {
        let record = change.new.as_deref().and_then(ServiceRecord::read);
        self.zone().set_service(change.key, record);
    }

    fn set_slice(&self, change: Change) {
        let record = change.new.as_deref().and_then(SliceRecord::read);
        self.zone().set_slice(change.key, record);
    }
}
