//! The row of a pod: readiness, the status word, restarts.
//!
//! Source: `printPod` in `pkg/printers/internalversion/printers.go`.

use cloudeck_machinery::Value;

use crate::table::{self, AGE, Column, NAME, TableRow, text, wide};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    text("Ready", "Ready containers of all containers."),
    text("Status", "The aggregate status of the containers in this pod."),
    text(
        "Restarts",
        "How often the containers in this pod were restarted, and when last.",
    ),
    AGE,
    wide("IP", "The pod's address."),
    wide("Node", "The node that runs the pod."),
    wide(
        "Nominated Node",
        "The node on which preemption makes room for the pod.",
    ),
    wide(
        "Readiness Gates",
        "True conditions among those that readiness waits for.",
    ),
];

pub(crate) const TEMPLATE_COLUMNS: &[Column] = &[
    NAME,
    text("Containers", "Names of each container in the template."),
    text("Images", "Images referenced by each container in the template."),
    text("Pod Labels", "The labels for the pod template."),
];

pub(crate) fn cells(pod: &Value, row: TableRow<'_>) -> Vec<Value> {
    let summary = Summary::of(pod);
    let address = pod
        .items_at(&["status", "podIPs"])
        .first()
        .and_then(|entry| entry.str_at(&["ip"]))
        .unwrap_or_default();
    vec![
        table::name(pod),
        Value::from(format!("{}/{}", summary.ready, summary.total)),
        Value::from(summary.reason),
        Value::from(summary.restarts.print(row.now)),
        table::age(pod, row),
        Value::from(table::or_none(address)),
        table::string_or(pod, &["spec", "nodeName"], "<none>"),
        table::string_or(pod, &["status", "nominatedNodeName"], "<none>"),
        Value::from(readiness_gates(pod)),
    ]
}

pub(crate) fn template_cells(template: &Value, _row: TableRow<'_>) -> Vec<Value> {
    let [names, images] = table::containers(template.at(&["template", "spec"]));
    let labels = table::labels(template.at(&["template", "metadata", "labels"]));
    vec![table::name(template), names, images, labels]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = pod.items_at(&["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let conditions = pod.items_at(&["status", "conditions"]);
    let holds = |gate: &&Value| {
        let kind = gate.str_at(&["conditionType"]);
        let condition = conditions
            .iter()
            .find(|condition| condition.str_at(&["type"]) == kind);
        condition.is_some_and(|condition| condition.str_at(&["status"]) == Some("True"))
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}

/// How often containers were restarted, and when last, in seconds since the epoch.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status.int_at(&["restartCount"]).unwrap_or(0);
        let finished = status
            .str_at(&["lastState", "terminated", "finishedAt"])
            .and_then(table::seconds);
        self.last = self.last.max(finished);
    }

    fn print(self, now: i64) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                let ago = cloudeck_machinery::time::duration::human(now - last);
                format!("{} ({ago} ago)", self.count)
            }
            _ => self.count.to_string(),
        }
    }
}

/// What upstream's printer gathers over the containers.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let sidecars: Vec<&str> = pod
            .items_at(&["spec", "initContainers"])
            .iter()
            .filter(|container| container.str_at(&["restartPolicy"]) == Some("Always"))
            .filter_map(|container| container.str_at(&["name"]))
            .collect();
        let mut summary = Self {
            ready: 0,
            total: pod.items_at(&["spec", "containers"]).len() + sidecars.len(),
            reason: first_reason(pod),
            restarts: Restarts::default(),
        };
        let mut of_sidecars = Restarts::default();
        let initializing = summary.add_init(pod, &sidecars, &mut of_sidecars);
        if !initializing || table::has_condition(pod, "Initialized", "True") {
            summary.restarts = of_sidecars;
            summary.add_main(pod);
        }
        summary.end(pod);
        summary
    }

    /// Goes through the init containers up to the first that is not done; whether there is one.
    fn add_init(&mut self, pod: &Value, sidecars: &[&str], of_sidecars: &mut Restarts) -> bool {
        let statuses = pod.items_at(&["status", "initContainerStatuses"]);
        for (at, status) in statuses.iter().enumerate() {
            self.restarts.add(status);
            let name = status.str_at(&["name"]).unwrap_or_default();
            let is_sidecar = sidecars.contains(&name);
            if is_sidecar {
                of_sidecars.add(status);
            }
            let terminated = status.at(&["state", "terminated"]);
            if terminated.is_some_and(|end| exit_code(end) == 0) {
                continue;
            }
            if is_sidecar && status.bool_at(&["started"]) == Some(true) {
                self.ready += usize::from(status.bool_at(&["ready"]) == Some(true));
                continue;
            }
            let waiting = status.str_at(&["state", "waiting", "reason"]).unwrap_or_default();
            self.reason = match (terminated, waiting) {
                (Some(end), _) => format!("Init:{}", end_reason(end)),
                (None, "" | "PodInitializing") => {
                    format!("Init:{at}/{}", pod.items_at(&["spec", "initContainers"]).len())
                }
                (None, reason) => format!("Init:{reason}"),
            };
            return true;
        }
        false
    }

    /// Goes through the containers from the last to the first, so that the first speaks for the pod.
    fn add_main(&mut self, pod: &Value) {
        let (mut running, mut failure) = (false, None);
        for status in pod.items_at(&["status", "containerStatuses"]).iter().rev() {
            self.restarts.add(status);
            let waiting = status.str_at(&["state", "waiting", "reason"]).unwrap_or_default();
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if let Some(end) = status.at(&["state", "terminated"]) {
                self.reason = end_reason(end);
                if exit_code(end) != 0 {
                    failure = Some(self.reason.clone());
                }
            } else if status.bool_at(&["ready"]) == Some(true) && status.at(&["state", "running"]).is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && table::has_condition(pod, "Ready", "True") {
                self.reason = "Running".into();
            } else if let Some(failure) = failure {
                self.reason = failure;
            } else if running {
                self.reason = "NotReady".into();
            }
        }
    }

    fn end(&mut self, pod: &Value) {
        if pod
            .at(&["metadata", "deletionTimestamp"])
            .is_none_or(Value::is_null)
        {
            return;
        }
        let terminal = matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
        if pod.str_at(&["status", "reason"]) == Some("NodeLost") {
            self.reason = "Unknown".into();
        } else if !terminal {
            self.reason = "Terminating".into();
        }
    }
}

/// The pod's own reason, its phase otherwise.
fn first_reason(pod: &Value) -> String {
    let gated = |condition: &Value| {
        condition.str_at(&["type"]) == Some("PodScheduled")
            && condition.str_at(&["reason"]) == Some("SchedulingGated")
    };
    if pod.items_at(&["status", "conditions"]).iter().any(gated) {
        return "SchedulingGated".into();
    }
    let own = pod
        .str_at(&["status", "reason"])
        .filter(|reason| !reason.is_empty());
    own.or_else(|| pod.str_at(&["status", "phase"]))
        .unwrap_or_default()
        .into()
}

fn exit_code(end: &Value) -> i64 {
    end.int_at(&["exitCode"]).unwrap_or(0)
}

fn end_reason(end: &Value) -> String {
    let reason = end.str_at(&["reason"]).unwrap_or_default();
    let signal = end.int_at(&["signal"]).unwrap_or(0);
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", exit_code(end)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests;
