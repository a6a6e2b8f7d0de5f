//! Scheduler.

use anyhow::Result;
use cloudeck_auth::LocalIdentity;
use cloudeck_scheduler::Scheduler;
use cloudeck_task::Scope;

use super::server::ServerRole;
use crate::settings::Settings;

/// What decides for the cluster.
pub struct ControlRole {
    scheduler: Scheduler,
}

pub async fn start(_settings: &Settings, server: &ServerRole, scope: &Scope) -> Result<ControlRole> {
    let scheduler = cloudeck_scheduler::start(server.client(LocalIdentity::component("system:kube-scheduler")), scope);
    Ok(ControlRole { scheduler })
}

impl ControlRole {
    /// Resolves when the caches of all are filled.
    pub async fn ready(&self) {
        self.scheduler.ready().await;
    }
}
