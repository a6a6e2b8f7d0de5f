//! What the agent remembers of one pod: everything that deciding and reporting look at.

use std::collections::BTreeMap;

use cloudeck_runtime::{ContainerId, Exit, RunsAs, SandboxId};

/// Milliseconds since 1970. The worker's clock reads it once per round, so a round sees one time.
pub type Millis = i64;

/// One pod as the node knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodMemo {
    /// Why the pod may not run here, once that is settled: a refusal at admission (`OutOfcpu`, `NodeAffinity`).
    pub rejected: Option<Rejection>,
    pub volumes: Step,
    pub sandbox: SandboxMemo,
    /// By container name, init containers included.
    pub containers: BTreeMap<String, ContainerMemo>,
    /// When termination began, and until when containers may take their leave.
    pub termination: Option<Termination>,
    /// Everything on the node is gone; only the API object may remain.
    pub cleaned: bool,
    /// The agent saw the pod first at this time (`status.startTime`).
    pub started_at: Millis,
    /// The IP that the network gave; kept for the pod's last status.
    pub pod_ip: Option<std::net::IpAddr>,
    /// A terminal phase once reported never goes back.
    pub settled_phase: Option<Phase>,
    /// The terminal phase was in the API when this agent met the pod: its status there is the last word, since what it
    /// was made of may be gone from the node.
    pub status_is_final: bool,
    /// `activeDeadlineSeconds` have passed: everything ends, and the pod has failed.
    pub deadline_exceeded: bool,
    /// Ends of containers whose starts are not reported yet: a short life's end overtakes the word of its start.
    pub early_exits: Vec<EarlyExit>,
}

/// An end that came before its start was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlyExit {
    pub id: ContainerId,
    pub exit: Option<Exit>,
    pub message: String,
}

/// How many early ends are kept; more containers than that do not start side by side in a pod, and an entry that is
/// never asked for (its start was abandoned) must not stay for ever.
const EARLY_EXITS: usize = 32;

impl PodMemo {
    /// Keeps an end until its start is told.
    pub fn keep_early_exit(&mut self, early: EarlyExit) {
        if self.early_exits.len() == EARLY_EXITS {
            self.early_exits.remove(0);
        }
        self.early_exits.push(early);
    }

    /// The end of a container that has ended before its start was told.
    pub fn take_early_exit(&mut self, id: &ContainerId) -> Option<EarlyExit> {
        let at = self.early_exits.iter().position(|early| early.id == *id)?;
        Some(self.early_exits.remove(at))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: &'static str,
    pub message: String,
}

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// A thing that must be done once before others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Step {
    #[default]
    Todo,
    Running,
    Done,
    /// Failed; may be tried again from then on.
    Failed {
        retry_at: Millis,
        message: String,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SandboxMemo {
    #[default]
    None,
    Creating,
    Ready {
        id: SandboxId,
    },
    /// Died or stopped; its remains are still there.
    Dead {
        id: SandboxId,
    },
    Stopping {
        id: SandboxId,
    },
    Failed {
        retry_at: Millis,
        message: String,
    },
}

impl SandboxMemo {
    pub fn ready(&self) -> Option<&SandboxId> {
        match self {
            Self::Ready { id } => Some(id),
            _ => None,
        }
    }
}

/// Why a pod is being ended, and how long its containers have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    pub since: Millis,
    pub grace_seconds: i64,
}

/// One container as the node knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerMemo {
    /// The newest attempt that the runtime holds.
    pub current: Option<Instance>,
    /// How the attempt before ended (`lastState`).
    pub previous: Option<Ended>,
    pub busy: Option<Busy>,
    /// Why it is not running, when something is to be said (`ErrImagePull`).
    pub waiting: Option<Waiting>,
    /// Not to be started before: image pull or crash back-off.
    pub retry_at: Option<Millis>,
    /// The last crash back-off, zero when there was none.
    pub crash_delay_ms: i64,
    /// The last back-off after a failed start (image pull and the like).
    pub start_delay_ms: i64,
    /// The start-up probe has passed, or there is none.
    pub started: bool,
    /// The readiness probe passes, or there is none.
    pub ready: bool,
    /// A liveness or start-up probe asks for its end.
    pub unhealthy: bool,
}

/// What is being done with a container right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    Starting,
    Stopping,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// One attempt at running a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub attempt: u32,
    pub state: InstanceState,
    /// As in the pod's spec, or as the node resolved it.
    pub image: String,
    pub image_id: String,
    /// Whom its first process runs as.
    pub user: Option<RunsAs>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    Created,
    Running { started_at: Millis },
    Exited(Ended),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub id: ContainerId,
    pub code: i32,
    pub signal: i32,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerStatusUnknown`, `StartError`…
    pub reason: String,
    /// The termination message, or why the end is unknown.
    pub message: String,
    pub started_at: Millis,
    pub finished_at: Millis,
}

impl Ended {
    /// Reads the runtime's word; `message` is the termination message.
    pub fn from_exit(
        id: ContainerId,
        started_at: Millis,
        exit: Option<Exit>,
        message: String,
        now: Millis,
    ) -> Self {
        let Some(exit) = exit else {
            return Self {
                id,
                code: 137,
                signal: 0,
                reason: "ContainerStatusUnknown".to_owned(),
                message: "The container could not be located when the pod was terminated".to_owned(),
                started_at,
                finished_at: now,
            };
        };
        let reason = match exit {
            Exit { oom: true, .. } => "OOMKilled",
            Exit { code: 0, .. } => "Completed",
            _ => "Error",
        };
        Self {
            id,
            code: exit.code,
            signal: exit.signal,
            reason: reason.to_owned(),
            message,
            started_at,
            finished_at: exit.at_ns / 1_000_000,
        }
    }

    pub fn succeeded(&self) -> bool {
        self.code == 0
    }
}

impl ContainerMemo {
    /// The running instance.
    pub fn running(&self) -> Option<&Instance> {
        self.current
            .as_ref()
            .filter(|i| matches!(i.state, InstanceState::Running { .. }))
    }

    /// How the newest attempt ended, if it has.
    pub fn ended(&self) -> Option<&Ended> {
        match &self.current.as_ref()?.state {
            InstanceState::Exited(ended) => Some(ended),
            _ => None,
        }
    }

    /// How it ended the last time, this attempt or the one before.
    pub fn last_end(&self) -> Option<&Ended> {
        self.ended().or(self.previous.as_ref())
    }

    /// Whether a process of it may be alive, now or in a moment.
    pub fn is_live(&self) -> bool {
        self.busy == Some(Busy::Starting)
            || self
                .current
                .as_ref()
                .is_some_and(|i| !matches!(i.state, InstanceState::Exited(_)))
    }

    pub fn restart_count(&self) -> u32 {
        self.current.as_ref().map_or(0, |instance| instance.attempt)
    }
}
