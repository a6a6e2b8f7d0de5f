//! Scheduler and controllers.

use cloudeck_auth::LocalIdentity;
use cloudeck_controllers::{Controllers, ControllersConfig};
use cloudeck_scheduler::Scheduler;
use cloudeck_task::Scope;

use super::server::ServerRole;
use crate::settings::Settings;

/// What decides for the cluster.
pub struct ControlRole {
    controllers: Controllers,
    scheduler: Scheduler,
}

pub fn start(settings: &Settings, server: &ServerRole, scope: &Scope) -> ControlRole {
    let config = ControllersConfig {
        root_ca_pem: server.serving_authority_pem(),
        cluster_domain: settings.cluster_domain.clone(),
    };
    // Each controller acts under its own service account, with upstream's role for it and no more.
    let client = |account: &str| server.client(LocalIdentity::controller(account));
    let controllers = cloudeck_controllers::start(config, &client, scope);
    let scheduler = cloudeck_scheduler::start(
        server.client(LocalIdentity::component("system:kube-scheduler")),
        scope,
    );
    ControlRole {
        controllers,
        scheduler,
    }
}

impl ControlRole {
    /// Resolves when the caches of all are filled.
    pub async fn ready(&self) {
        self.controllers.ready().await;
        self.scheduler.ready().await;
    }
}
