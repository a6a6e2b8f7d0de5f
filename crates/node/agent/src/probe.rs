//! Probes: one task per probe of a running container.
//!
//! A task checks at its period and tells the worker of *changes* only: after `successThreshold` or `failureThreshold`
//! equal results in a row. Liveness and start-up failures are told once; the worker ends the container.

pub(crate) mod http;
mod tcp;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cloudeck_controller::{EventType, ObjectReference};
use cloudeck_runtime::{ContainerId, RequestError};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::node::Node;
use crate::pod::Millis;
use crate::pod::report::{ProbeKind, Report};
use crate::pod::worker::{field_path, pod_reference};

/// The container to probe.
pub(crate) struct Target {
    pub pod: Arc<Pod>,
    pub container: Container,
    pub id: ContainerId,
    pub pod_ip: Option<IpAddr>,
    /// Since when it runs: the initial delay counts from there.
    pub begun_at: Millis,
    /// Its start-up probe has passed, or there is none.
    pub started: bool,
    /// What is known of its readiness; after a restart of the agent, what was reported before.
    pub ready: bool,
}

/// One check's result; the text is what the `Unhealthy` event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed(String),
    /// It could not be asked, which says nothing of it.
    Unknown(String),
}

/// Starts what the container's state asks for: before it has `started` the start-up probe alone.
pub(crate) fn start(
    node: &Arc<Node>,
    target: Target,
    outbox: mpsc::Sender<Report>,
) -> Vec<(ProbeKind, AbortHandle)> {
    let container = &target.container;
    let wanted: Vec<(ProbeKind, Probe)> = match &container.startup_probe {
        Some(probe) if !target.started => vec![(ProbeKind::Startup, probe.clone())],
        _ => [
            (ProbeKind::Liveness, &container.liveness_probe),
            (ProbeKind::Readiness, &container.readiness_probe),
        ]
        .into_iter()
        .filter_map(|(kind, probe)| probe.clone().map(|probe| (kind, probe)))
        .collect(),
    };
    let target = Arc::new(target);
    let begin = |(kind, probe): (ProbeKind, Probe)| {
        let prober = Prober {
            node: Arc::clone(node),
            target: Arc::clone(&target),
            kind,
            probe,
            outbox: outbox.clone(),
        };
        (kind, node.scope.spawn_until_shutdown("probe", prober.run()))
    };
    wanted.into_iter().map(begin).collect()
}

struct Prober {
    node: Arc<Node>,
    target: Arc<Target>,
    kind: ProbeKind,
    probe: Probe,
    outbox: mpsc::Sender<Report>,
}

impl Prober {
    async fn run(self) {
        let seconds = |value: Option<i32>, default| {
            Duration::from_secs(u64::try_from(value.unwrap_or(default)).unwrap_or(0))
        };
        let runs_for = self.node.now().saturating_sub(self.target.begun_at);
        let runs_for = Duration::from_millis(u64::try_from(runs_for).unwrap_or(0));
        let delay = seconds(self.probe.initial_delay_seconds, 0).saturating_sub(runs_for);
        tokio::time::sleep(delay).await;
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        let mut tally = Tally::new(
            self.kind,
            self.target.ready,
            self.probe.success_threshold.unwrap_or(1),
            self.probe.failure_threshold.unwrap_or(3),
        );
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let passed = match self.check().await {
                Verdict::Passed => true,
                Verdict::Failed(why) => {
                    self.tell_unhealthy(&format!("failed: {why}"));
                    false
                }
                Verdict::Unknown(why) => {
                    self.tell_unhealthy(&format!("errored and resulted in unknown state: {why}"));
                    continue;
                }
            };
            if let Some(passed) = tally.count(passed) {
                let (name, id) = (self.target.container.name.clone(), self.target.id.clone());
                let report = Report::Probed {
                    name,
                    id,
                    probe: self.kind,
                    passed,
                };
                if self.outbox.send(report).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn check(&self) -> Verdict {
        let limit = Duration::from_secs(
            u64::try_from(self.probe.timeout_seconds.unwrap_or(1))
                .unwrap_or(1)
                .max(1),
        );
        let ip = self
            .target
            .pod_ip
            .map(|ip| ip.to_string())
            .or_else(|| pod_address(&self.node, &self.target.pod));
        if let Some(exec) = &self.probe.exec {
            return self.exec(exec.command.clone().unwrap_or_default(), limit).await;
        }
        if let Some(action) = &self.probe.http_get {
            let host = action.host.clone().filter(|h| !h.is_empty()).or(ip);
            return match http::HttpCheck::from_action(action, &self.target.container, host, limit) {
                Ok(check) => check.run().await,
                Err(error) => Verdict::Unknown(error.to_string()),
            };
        }
        if let Some(action) = &self.probe.tcp_socket {
            let host = action.host.clone().filter(|h| !h.is_empty()).or(ip);
            return tcp::check(host, port_number(&action.port, &self.target.container), limit).await;
        }
        Verdict::Failed("gRPC probes are not supported".to_owned())
    }

    async fn exec(&self, command: Vec<String>, limit: Duration) -> Verdict {
        match self.node.runtime.exec_sync(&self.target.id, command, limit).await {
            Ok(output) if output.code == 0 => Verdict::Passed,
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                Verdict::Failed(String::from_utf8_lossy(&text[..text.len().min(10 * 1024)]).into_owned())
            }
            Err(error @ RequestError::Timeout(_)) => Verdict::Failed(error.to_string()),
            Err(error) => Verdict::Unknown(crate::pod::chain(&error)),
        }
    }

    fn tell_unhealthy(&self, why: &str) {
        let name = match self.kind {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        };
        let pod = &self.target.pod;
        let reference = ObjectReference {
            field_path: field_path(pod, &self.target.container.name),
            ..pod_reference(pod)
        };
        self.node.recorder.event(
            reference,
            EventType::Warning,
            "Unhealthy",
            format!("{name} probe {why}"),
        );
    }
}

/// Counts results in a row and says when the state changes.
struct Tally {
    kind: ProbeKind,
    success_threshold: i32,
    failure_threshold: i32,
    in_a_row: i32,
    last: Option<bool>,
    told: Option<bool>,
}

impl Tally {
    fn new(kind: ProbeKind, ready: bool, success_threshold: i32, failure_threshold: i32) -> Self {
        // Liveness begins healthy, start-up failed, readiness as it is known.
        let told = Some(match kind {
            ProbeKind::Liveness => true,
            ProbeKind::Startup => false,
            ProbeKind::Readiness => ready,
        });
        Self {
            kind,
            success_threshold,
            failure_threshold,
            in_a_row: 0,
            last: None,
            told,
        }
    }

    fn count(&mut self, passed: bool) -> Option<bool> {
        self.in_a_row = if self.last == Some(passed) {
            self.in_a_row + 1
        } else {
            1
        };
        self.last = Some(passed);
        let threshold = if passed {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.in_a_row < threshold {
            return None;
        }
        // A start-up probe begins failed, yet its failure is news: it ends the container.
        let news = self.told != Some(passed)
            || (self.kind == ProbeKind::Startup && !passed && self.in_a_row == threshold);
        self.told = Some(passed);
        news.then_some(passed)
    }
}

/// The pod's address: the host's for pods in its network.
pub(crate) fn pod_address(node: &Node, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.host_network == Some(true) {
        return Some(node.address().to_string());
    }
    let uid = pod.metadata.uid.as_deref()?;
    node.network.address_of(uid).map(|address| address.ip.to_string())
}

/// A port by number or by the container's name for it.
pub(crate) fn port_number(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name));
            named.map_or_else(|| name.parse().ok(), |p| u16::try_from(p.container_port).ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: ProbeKind, success: i32, failure: i32, results: &str) -> Vec<Option<bool>> {
        let mut tally = Tally::new(kind, false, success, failure);
        results.chars().map(|c| tally.count(c == '+')).collect()
    }

    #[test]
    fn readiness_tells_each_change_once() {
        let news = told(ProbeKind::Readiness, 1, 3, "-+++---+");
        assert_eq!(
            news,
            [None, Some(true), None, None, None, None, Some(false), Some(true)]
        );
    }

    #[test]
    fn what_was_ready_before_the_agent_came_stays_so_until_it_fails() {
        let mut tally = Tally::new(ProbeKind::Readiness, true, 1, 2);
        let news: Vec<_> = "+--".chars().map(|c| tally.count(c == '+')).collect();
        assert_eq!(news, [None, None, Some(false)]);
    }

    #[test]
    fn liveness_begins_healthy_and_tells_its_failure() {
        assert_eq!(
            told(ProbeKind::Liveness, 1, 2, "+-+--"),
            [None, None, None, None, Some(false)]
        );
    }

    #[test]
    fn a_start_up_probe_tells_success_or_final_failure() {
        assert_eq!(told(ProbeKind::Startup, 1, 3, "--+"), [None, None, Some(true)]);
        assert_eq!(told(ProbeKind::Startup, 1, 3, "---"), [None, None, Some(false)]);
    }
}
