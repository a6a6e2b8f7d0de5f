//! Random graphs of owners: whatever is deleted in whatever way, in the end exactly those are left that have no owners
//! or one that is left.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cloudeck_machinery::Value;
use proptest::prelude::*;

use super::decide::{Action, Dependents, Owner, decide_ending, decide_living};
use super::graph::{FOREGROUND, Graph, Metadata};
use crate::pod::tests::object;

/// Owners are numbers; those beyond the objects never were.
#[derive(Debug, Clone)]
struct Thing {
    /// With whether the reference blocks the owner's deletion.
    owners: Vec<(usize, bool)>,
    foreground: bool,
}

#[derive(Default)]
struct World {
    things: BTreeMap<usize, Thing>,
    graph: Graph,
    awake: VecDeque<String>,
}

fn uid(number: usize) -> String {
    format!("u{number}")
}

impl World {
    fn show(&mut self, number: usize) {
        let thing = &self.things[&number];
        let mut tree = Value::object();
        let owners: Vec<Value> = thing
            .owners
            .iter()
            .map(|(owner, blocks)| {
                cloudeck_machinery::value!({
                    "apiVersion": "v1", "kind": "ConfigMap", "name": (uid(*owner)), "uid": (uid(*owner)),
                    "blockOwnerDeletion": (*blocks)
                })
            })
            .collect();
        tree.set_at(&["metadata", "ownerReferences"], owners);
        if thing.foreground {
            tree.set_at(&["metadata", "deletionTimestamp"], "t");
            tree.set_at(&["metadata", "finalizers"], vec![FOREGROUND.into()]);
        }
        let info = cloudeck_schema::resource("", "v1", "configmaps").unwrap();
        let awake = self.graph.set(info, &object(&uid(number), &tree.to_string()));
        self.awake.extend(awake.iter().map(ToString::to_string));
    }

    fn remove(&mut self, number: usize) {
        self.things.remove(&number);
        let awake = self.graph.remove(&uid(number));
        self.awake.extend(awake.iter().map(ToString::to_string));
    }

    fn delete(&mut self, number: usize, foreground: bool) {
        match self.things.get_mut(&number) {
            Some(thing) if foreground => {
                thing.foreground = true;
                self.show(number);
            }
            // Already on its way.
            Some(thing) if thing.foreground => {}
            Some(_) => self.remove(number),
            None => {}
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some(next) = self.awake.pop_front() else {
                return;
            };
            self.look(&next);
        }
        panic!("it never rests");
    }

    fn look(&mut self, uid_text: &str) {
        let Some(node) = self.graph.node(uid_text) else {
            return;
        };
        let number: usize = uid_text[1..].parse().unwrap();
        let dependents = self.graph.dependents(uid_text);
        let stand = Dependents {
            any: !dependents.is_empty(),
            blocking: dependents.iter().any(|(_, it)| it.blocks(uid_text)),
            waiting: dependents.iter().any(|(_, it)| it.metadata.awaits_dependents()),
        };
        let metadata: &Metadata = &node.metadata;
        let action = if metadata.is_deleting() {
            decide_ending(metadata, stand)
        } else {
            let owners: Vec<Owner> = self.things[&number]
                .owners
                .iter()
                .map(|(owner, _)| self.owner(*owner))
                .collect();
            decide_living(metadata, &owners, stand)
        };
        match action {
            Action::Nothing | Action::OrphanDependents => {}
            Action::RemoveFinalizer(_) => self.remove(number),
            Action::WakeDependents => {
                let blocking = dependents
                    .iter()
                    .filter(|(_, it)| it.blocks(uid_text) && !it.metadata.is_deleting());
                self.awake.extend(blocking.map(|(uid, _)| uid.to_string()));
            }
            Action::RemoveReferences(places) => {
                let thing = self.things.get_mut(&number).unwrap();
                let mut at = 0;
                thing.owners.retain(|_| {
                    at += 1;
                    !places.contains(&(at - 1))
                });
                self.show(number);
            }
            Action::Delete { policy, unblock } => {
                if unblock {
                    let thing = self.things.get_mut(&number).unwrap();
                    thing.owners.iter_mut().for_each(|(_, blocks)| *blocks = false);
                    self.show(number);
                }
                self.delete(number, policy == "Foreground");
            }
        }
    }

    fn owner(&self, owner: usize) -> Owner {
        match self.things.get(&owner) {
            None => Owner::Absent,
            Some(thing) if thing.foreground => Owner::Waiting,
            Some(_) => Owner::Solid,
        }
    }
}

/// What is left when `gone` go: as long as something has owners and none of them is left, it goes, too.
fn left_over(owners: &[Vec<(usize, bool)>], gone: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut left: BTreeSet<usize> = (0..owners.len())
        .filter(|number| !gone.contains(number))
        .collect();
    loop {
        let lost = |number: &usize| {
            let owners = &owners[*number];
            !owners.is_empty() && !owners.iter().any(|(owner, _)| left.contains(owner))
        };
        let kept: BTreeSet<usize> = left.iter().copied().filter(|number| !lost(number)).collect();
        if kept.len() == left.len() {
            return left;
        }
        left = kept;
    }
}

fn graphs() -> impl Strategy<Value = Vec<Vec<(usize, bool)>>> {
    let owners = prop::collection::vec((0..12_usize, any::<bool>()), 0..3);
    prop::collection::vec(owners, 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Owners come before what they own, as owners of real objects do: no circles.
    #[test]
    fn exactly_what_has_an_owner_left_or_none_stays(
        owners in graphs(), deletions in prop::collection::vec((0..10_usize, any::<bool>()), 0..4),
    ) {
        let acyclic = |(number, owners): (usize, &Vec<(usize, bool)>)| {
            let keep = |owner: &&(usize, bool)| owner.0 < number || owner.0 >= 10;
            owners.iter().filter(keep).copied().collect::<Vec<_>>()
        };
        let owners: Vec<_> = owners.iter().enumerate().map(acyclic).collect();
        let mut world = World::default();
        for (number, owners) in owners.iter().enumerate() {
            world.things.insert(number, Thing { owners: owners.clone(), foreground: false });
        }
        for number in 0..owners.len() {
            world.show(number);
        }
        world.settle();
        let mut gone = BTreeSet::new();
        for (number, foreground) in deletions {
            if number < owners.len() {
                world.delete(number, foreground);
                gone.insert(number);
            }
        }
        world.settle();
        let left: BTreeSet<usize> = world.things.keys().copied().collect();
        prop_assert_eq!(left, left_over(&owners, &gone));
    }
}

#[test]
fn a_circle_that_is_deleted_in_the_foreground_goes() {
    let mut world = World::default();
    for (number, owner) in [(0, 1), (1, 0)] {
        world.things.insert(
            number,
            Thing {
                owners: vec![(owner, true)],
                foreground: false,
            },
        );
    }
    world.show(0);
    world.show(1);
    world.settle();
    world.delete(0, true);
    world.settle();
    assert!(world.things.is_empty(), "{:?}", world.things);
}
