//! Feeding the zone from the shared informers.

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
    /// Keeps the names as these informers see them.
    pub fn follow(&self, services: &Informer, endpoint_slices: &Informer, scope: &Scope) {
        let dns = self.clone();
        let mut changes = services.subscribe();
        scope.spawn_until_shutdown("dns-services", async move {
            loop {
                let change = changes.next().await;
                let record = change.new.as_deref().and_then(ServiceRecord::read);
                dns.zone().set_service(change.key, record);
            }
        });
        let dns = self.clone();
        let mut changes = endpoint_slices.subscribe();
        scope.spawn_until_shutdown("dns-endpoint-slices", async move {
            loop {
                let change = changes.next().await;
                let record = change.new.as_deref().and_then(SliceRecord::read);
                dns.zone().set_slice(change.key, record);
            }
        });
    }
}
