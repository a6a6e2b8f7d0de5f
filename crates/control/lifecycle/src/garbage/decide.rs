//! What becomes of an object, given how its owners are. Pure.
//!
//! Source: `attemptToDeleteItem` in `pkg/controller/garbagecollector`.

use super::graph::{Graph, Item, OwnerRef, Uid};

/// How an owner was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerState {
    Solid,
    /// It is not there, or another object has its name.
    Dangling,
    /// In foreground deletion: it goes once its dependents are gone.
    Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Background,
    Foreground,
    Orphan,
}

impl Policy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Nothing,
    /// The finalizer `foregroundDeletion` goes: nothing blocks any more.
    Finish,
    /// Dependents to be looked at first.
    LookAt(Vec<Uid>),
    /// References of these owners go, others hold the object.
    Drop(Vec<Uid>),
    /// Delete; `unblock` first, because a dependent waits in a circle.
    Delete {
        policy: Policy,
        unblock: bool,
    },
}

/// For an object in foreground deletion.
pub(crate) fn foreground(graph: &Graph, uid: &str) -> Action {
    let blocking = graph.blocking(uid);
    if blocking.is_empty() {
        return Action::Finish;
    }
    let idle = |uid: &Uid| graph.get(uid).is_some_and(|item| !item.waits_for_dependents());
    Action::LookAt(blocking.into_iter().filter(idle).collect())
}

/// For an object that is not being deleted.
pub(crate) fn living(graph: &Graph, uid: &str, latest: &Item, owners: &[(OwnerRef, OwnerState)]) -> Action {
    if owners.is_empty() {
        return Action::Nothing;
    }
    let any = |state| owners.iter().any(|(_, other)| *other == state);
    if any(OwnerState::Solid) {
        let loose = owners.iter().filter(|(_, state)| *state != OwnerState::Solid);
        let loose: Vec<_> = loose.map(|(owner, _)| owner.uid.clone()).collect();
        return if loose.is_empty() {
            Action::Nothing
        } else {
            Action::Drop(loose)
        };
    }
    if any(OwnerState::Waiting) && graph.has_dependents(uid) {
        let waits = |dependent: &Uid| graph.get(dependent).is_some_and(Item::waits_for_dependents);
        let unblock = graph.dependents(uid).any(waits);
        return Action::Delete {
            policy: Policy::Foreground,
            unblock,
        };
    }
    let policy = match (latest.orphan, latest.foreground) {
        (true, _) => Policy::Orphan,
        (_, true) => Policy::Foreground,
        _ => Policy::Background,
    };
    Action::Delete {
        policy,
        unblock: false,
    }
}
