//! Scheduler and controllers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    let (started, started_too) = (controllers.clone(), scheduler.clone());
    tell_of(server, scope, "controller-manager", async move {
        started.ready().await;
    });
    tell_of(server, scope, "scheduler", async move {
        started_too.ready().await;
    });
    ControlRole {
        controllers,
        scheduler,
    }
}

/// Lets the API tell of a part that is healthy once it is ready: after that it ends with the process.
fn tell_of(
    server: &ServerRole,
    scope: &Scope,
    component: &'static str,
    ready: impl Future<Output = ()> + Send + 'static,
) {
    let is_ready = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_ready);
    server.tell_of(component, move || {
        let is_ready = asked.load(Ordering::Relaxed);
        is_ready
            .then_some(())
            .ok_or_else(|| "its caches are not filled yet".to_owned())
    });
    scope.spawn_until_shutdown("readiness of a component", async move {
        ready.await;
        is_ready.store(true, Ordering::Relaxed);
    });
}

impl ControlRole {
    /// Resolves when the caches of all are filled.
    pub async fn ready(&self) {
        self.controllers.ready().await;
        self.scheduler.ready().await;
    }
}
