//! What the collector does with an object, as a pure function of what is known of it and its owners.

use super::graph::{FOREGROUND, Metadata, ORPHAN};

/// What is known of one owner reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The owner exists, or nobody can tell that it does not.
    Solid,
    /// The owner is being deleted and waits for this object.
    Waiting,
    /// There is no such owner: looked up by name, and another or none has the name.
    Absent,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Remove this finalizer: nothing stands in the way of the deletion any more.
    RemoveFinalizer(&'static str),
    /// Take the owner references of its dependents away, then remove the finalizer.
    OrphanDependents,
    /// Look at the dependents that block the deletion.
    WakeDependents,
    /// Remove the references at these places.
    RemoveReferences(Vec<usize>),
    /// Delete it with this propagation policy; with `unblock`, after its references stop blocking, which breaks circles.
    Delete {
        policy: &'static str,
        unblock: bool,
    },
}

/// How an object's dependents stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dependents {
    pub(super) any: bool,
    /// Some block its deletion.
    pub(super) blocking: bool,
    /// Some are waiting for their own dependents.
    pub(super) waiting: bool,
}

/// An object that is being deleted.
pub(super) fn decide_ending(metadata: &Metadata, dependents: Dependents) -> Action {
    if metadata.orphans_dependents() {
        Action::OrphanDependents
    } else if !metadata.awaits_dependents() {
        Action::Nothing
    } else if dependents.blocking {
        Action::WakeDependents
    } else {
        Action::RemoveFinalizer(FOREGROUND)
    }
}

/// An object that is not; `owners` stands in the order of its references.
pub(super) fn decide_living(metadata: &Metadata, owners: &[Owner], dependents: Dependents) -> Action {
    if owners.is_empty() {
        return Action::Nothing;
    }
    if owners.contains(&Owner::Solid) {
        let gone = owners
            .iter()
            .enumerate()
            .filter(|(_, owner)| **owner != Owner::Solid);
        let gone: Vec<usize> = gone.map(|(at, _)| at).collect();
        return if gone.is_empty() {
            Action::Nothing
        } else {
            Action::RemoveReferences(gone)
        };
    }
    if owners.contains(&Owner::Waiting) && dependents.any {
        return Action::Delete {
            policy: "Foreground",
            unblock: dependents.waiting,
        };
    }
    let policy = if metadata.has_finalizer(ORPHAN) {
        "Orphan"
    } else if metadata.has_finalizer(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    Action::Delete {
        policy,
        unblock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(text: &str) -> Metadata {
        serde_json::from_str(text).unwrap()
    }

    const NONE: Dependents = Dependents {
        any: false,
        blocking: false,
        waiting: false,
    };
    const SOME: Dependents = Dependents { any: true, ..NONE };

    #[track_caller]
    fn living(owners: &[Owner], dependents: Dependents, wanted: &Action) {
        assert_eq!(decide_living(&metadata("{}"), owners, dependents), *wanted);
    }

    #[test]
    fn an_object_with_an_owner_stays_and_loses_references_to_absent_ones() {
        living(&[], NONE, &Action::Nothing);
        living(&[Owner::Solid], NONE, &Action::Nothing);
        living(
            &[Owner::Absent, Owner::Solid, Owner::Waiting],
            NONE,
            &Action::RemoveReferences(vec![0, 2]),
        );
    }

    #[test]
    fn an_object_without_owners_left_goes() {
        let delete = Action::Delete {
            policy: "Background",
            unblock: false,
        };
        living(&[Owner::Absent], NONE, &delete);
        living(&[Owner::Waiting], NONE, &delete);
        living(&[Owner::Absent], SOME, &delete);
    }

    #[test]
    fn below_a_waiting_owner_dependents_go_first() {
        living(
            &[Owner::Waiting],
            SOME,
            &Action::Delete {
                policy: "Foreground",
                unblock: false,
            },
        );
        let circle = Dependents {
            waiting: true,
            ..SOME
        };
        living(
            &[Owner::Waiting],
            circle,
            &Action::Delete {
                policy: "Foreground",
                unblock: true,
            },
        );
    }

    #[test]
    fn finalizers_that_stand_already_are_honoured() {
        let orphaning = metadata(r#"{"finalizers":["orphan"]}"#);
        let wanted = Action::Delete {
            policy: "Orphan",
            unblock: false,
        };
        assert_eq!(decide_living(&orphaning, &[Owner::Absent], NONE), wanted);
    }

    #[test]
    fn an_ending_object_waits_for_what_blocks_it() {
        let deleting = |finalizer: &str| {
            metadata(&format!(
                r#"{{"deletionTimestamp":"t","finalizers":["{finalizer}"]}}"#
            ))
        };
        let blocked = Dependents {
            blocking: true,
            ..SOME
        };
        assert_eq!(
            decide_ending(&deleting(FOREGROUND), blocked),
            Action::WakeDependents
        );
        assert_eq!(
            decide_ending(&deleting(FOREGROUND), SOME),
            Action::RemoveFinalizer(FOREGROUND)
        );
        assert_eq!(decide_ending(&deleting(ORPHAN), SOME), Action::OrphanDependents);
        assert_eq!(
            decide_ending(&deleting("example.com/other"), blocked),
            Action::Nothing
        );
    }
}
