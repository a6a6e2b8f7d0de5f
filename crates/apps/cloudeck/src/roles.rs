//! The roles of a node, each built by one function, and the order in which they start.
//!
//! Everything in a [`Cluster`] is started by [`start`], which takes the parts apart exhaustively: a part that is built
//! and forgotten does not compile.

pub use node::KUBERNETES_VERSION;

mod control;
mod node;
mod server;
mod services;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use cloudeck_task::Scope;

use crate::daemon::Progress;
use crate::settings::{Places, Settings};

/// What runs.
pub struct Cluster {
    server: server::ServerRole,
    control: control::ControlRole,
    node: node::NodeRole,
    services: services::ServicesRole,
}

/// Starts all roles of a single node.
pub async fn start(
    places: &Places,
    settings: &Settings,
    scope: &Scope,
    progress: &mut dyn Progress,
) -> Result<Cluster> {
    let address = cloudeck_network::ensure_node_address(&places.network(), None)
        .context("find this machine's address")?;
    progress.step(&format!("node {} at {}", settings.node_name, address.ip));
    // The node's own parts need no API: they come up beside the server.
    let machine = node::prepare(places, settings, address.ip, scope);
    let server = server::start(places, settings, address.ip, scope);
    let (machine, server) = tokio::try_join!(machine, server)?;
    progress.step(&format!(
        "Kubernetes API at https://{}:{}",
        address.ip, settings.port
    ));
    let services = services::start(&places.instance, settings, &server, address.ip, scope)?;
    let control = control::start(settings, &server, scope);
    let node = node::start(places, settings, address.ip, machine, &server, scope).await?;
    Ok(Cluster {
        server,
        control,
        node,
        services,
    })
}

impl Cluster {
    /// Resolves when the API answers, controllers run and pods can start.
    pub async fn ready(&self) {
        self.control.ready().await;
        self.node.ready(&self.server).await;
        self.services.ready().await;
    }

    /// Stops taking requests and lets those under way finish.
    pub async fn shutdown(self, deadline: Duration) {
        let Self {
            server,
            control: _,
            node: _,
            services: _,
        } = self;
        server.shutdown(deadline).await;
    }
}

/// What has no trigger but time: certificates are renewed, memory goes back to the kernel when the server is idle.
pub fn housekeeping(cluster: &Arc<Cluster>, scope: &Scope) {
    const RENEW: Duration = Duration::from_secs(30);
    let weak = Arc::downgrade(cluster);
    scope.spawn_until_shutdown("certificates", async move {
        let mut ticks = tokio::time::interval(RENEW);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(cluster) = weak.upgrade() else { return };
            if let Err(error) = cluster.server.renew_certificates() {
                tracing::error!(error = format!("{error:#}"), "certificates not renewed");
            }
        }
    });
    scope.spawn_until_shutdown("memory", trim_when_idle());
}

/// Gives memory back once after every time of work: a trim walks the heap and would hold up those who use it, and an
/// idle server has nothing to give.
async fn trim_when_idle() {
    const LOOK: Duration = Duration::from_secs(2);
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut used, mut worked) = (processor_time(), true);
    loop {
        ticks.tick().await;
        let before = std::mem::replace(&mut used, processor_time());
        if used.saturating_sub(before) > LOOK / 50 {
            worked = true;
        } else if std::mem::take(&mut worked)
            // A few milliseconds, off the executor.
            && tokio::task::spawn_blocking(cloudeck_linux::memory::trim)
                .await
                .is_err()
        {
            tracing::warn!("memory not trimmed");
        }
    }
}

/// What this process has used of the processors.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec.unsigned_abs(), used.tv_nsec as u32)
}
