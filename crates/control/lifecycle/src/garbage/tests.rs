//! Random graphs of owners and random deletions, run to the end in random order against a model of the server.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// An object of the modelled server.
#[derive(Debug, Clone)]
struct Thing {
    owners: Vec<(usize, bool)>,
    deleting: bool,
    finalizer: Option<Policy>,
}

/// The server, what of it the graph has yet to hear, and the work queue.
struct World {
    things: BTreeMap<usize, Thing>,
    unheard: Vec<usize>,
    graph: Graph,
    queue: Vec<Uid>,
}

fn uid_of(id: usize) -> Uid {
    id.to_string().into()
}

fn item_of(id: usize, thing: &Thing) -> Item {
    let owner = |(id, blocks): &(usize, bool)| OwnerRef {
        uid: uid_of(*id),
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: id.to_string().into(),
        blocks: *blocks,
    };
    Item {
        kind: 0,
        key: ObjectKey::new("ns", &id.to_string()),
        owners: thing.owners.iter().map(owner).collect(),
        deleting: thing.deleting,
        foreground: thing.finalizer == Some(Policy::Foreground),
        orphan: thing.finalizer == Some(Policy::Orphan),
    }
}

impl World {
    fn new(things: BTreeMap<usize, Thing>) -> Self {
        let unheard = things.keys().copied().collect();
        Self {
            things,
            unheard,
            graph: Graph::default(),
            queue: Vec::new(),
        }
    }

    /// As after a restart: the graph is filled as a whole.
    fn restart(&mut self) {
        self.graph = Graph::default();
        self.unheard.clear();
        for (id, thing) in &self.things {
            self.graph.set(&uid_of(*id), item_of(*id, thing));
        }
        self.queue = self.graph.doubts();
    }

    fn delete(&mut self, id: usize, policy: Policy) {
        let Some(thing) = self.things.get_mut(&id) else {
            return;
        };
        thing.deleting = true;
        thing.finalizer = Some(policy).filter(|policy| *policy != Policy::Background);
        self.settle(id);
    }

    /// What the server does after a write.
    fn settle(&mut self, id: usize) {
        if self.things[&id].deleting && self.things[&id].finalizer.is_none() {
            self.things.remove(&id);
        }
        self.unheard.push(id);
    }

    /// Runs until nothing is left to do, taking events and work in the order that `dice` says.
    fn run(&mut self, mut dice: impl FnMut(usize) -> usize) {
        for _ in 0..100_000 {
            let (events, work) = (self.unheard.len(), self.queue.len());
            if events + work == 0 {
                return;
            }
            let at = dice(events + work);
            if at < events {
                let id = self.unheard.swap_remove(at);
                self.hear(id);
            } else {
                let uid = self.queue.swap_remove(at - events);
                self.work(&uid);
            }
        }
        panic!("it does not come to an end");
    }

    fn hear(&mut self, id: usize) {
        let look = match self.things.get(&id) {
            Some(thing) => self.graph.set(&uid_of(id), item_of(id, thing)),
            None => self.graph.remove(&uid_of(id)),
        };
        self.queue.extend(look);
    }

    /// As [`Garbage::reconcile`].
    fn work(&mut self, uid: &Uid) {
        let Some(item) = self.graph.get(uid).cloned() else {
            return;
        };
        let id: usize = uid.parse().unwrap();
        if item.sets_free() {
            return self.set_free(id);
        }
        if item.deleting && !item.foreground {
            return;
        }
        let Some(latest) = self.things.get(&id).cloned() else {
            return;
        };
        let action = if item.waits_for_dependents() {
            decide::foreground(&self.graph, uid)
        } else {
            let current = item_of(id, &latest);
            let state = |owner: &OwnerRef| match self.things.get(&owner.uid.parse().unwrap()) {
                None => OwnerState::Dangling,
                Some(it) if it.deleting && it.finalizer == Some(Policy::Foreground) => OwnerState::Waiting,
                Some(_) => OwnerState::Solid,
            };
            let owners: Vec<_> = current
                .owners
                .iter()
                .map(|owner| (owner.clone(), state(owner)))
                .collect();
            decide::living(&self.graph, uid, &current, &owners)
        };
        self.act(id, action);
    }

    fn act(&mut self, id: usize, action: Action) {
        let thing = self.things.get_mut(&id).unwrap();
        match action {
            Action::Nothing => return,
            Action::LookAt(all) => return self.queue.extend(all),
            Action::Finish => thing.finalizer = None,
            Action::Drop(gone) => thing.owners.retain(|(owner, _)| !gone.contains(&uid_of(*owner))),
            Action::Delete { policy, unblock } => {
                if unblock {
                    for (_, blocks) in &mut thing.owners {
                        *blocks = false;
                    }
                }
                if !thing.deleting {
                    return self.delete(id, policy);
                }
            }
        }
        self.settle(id);
    }

    fn set_free(&mut self, id: usize) {
        let dependents: Vec<usize> = self
            .graph
            .dependents(&uid_of(id))
            .map(|uid| uid.parse().unwrap())
            .collect();
        for dependent in dependents {
            if let Some(thing) = self.things.get_mut(&dependent) {
                thing.owners.retain(|(owner, _)| *owner != id);
                self.settle(dependent);
            }
        }
        if let Some(thing) = self.things.get_mut(&id) {
            thing.finalizer = None;
            self.settle(id);
        }
    }
}

/// Who is left once everything without a living owner is gone.
fn survivors(things: &BTreeMap<usize, Thing>, deleted: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut alive: BTreeSet<usize> = things
        .keys()
        .copied()
        .filter(|id| !deleted.contains(id))
        .collect();
    loop {
        let doomed = |id: &&usize| {
            let owners = &things[*id].owners;
            !owners.is_empty() && !owners.iter().any(|(owner, _)| alive.contains(owner))
        };
        let Some(id) = alive.iter().find(doomed).copied() else {
            return alive;
        };
        alive.remove(&id);
    }
}

const SIZE: usize = 12;

/// Objects whose owners have smaller numbers, or are not there at all.
fn things() -> impl Strategy<Value = BTreeMap<usize, Thing>> {
    let owners = || proptest::collection::btree_map(0..SIZE + 2, any::<bool>(), 0..3);
    proptest::collection::vec(owners(), 1..SIZE).prop_map(|all| {
        let thing = |(id, owners): (usize, BTreeMap<usize, bool>)| {
            let owners = owners
                .into_iter()
                .filter(|(owner, _)| *owner < id || *owner >= SIZE)
                .collect();
            (
                id,
                Thing {
                    owners,
                    deleting: false,
                    finalizer: None,
                },
            )
        };
        all.into_iter().enumerate().map(thing).collect()
    })
}

/// Choices out of a seed: the test is the same when it is run again.
fn dice(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |sides| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % sides
    }
}

proptest! {
    #[test]
    fn exactly_those_without_a_living_owner_go(
        things in things(),
        deletions in proptest::collection::btree_map(0..SIZE, any::<bool>(), 0..4),
        early in any::<bool>(),
        restart in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let expected = survivors(&things, &deletions.keys().copied().collect());
        let mut world = World::new(things);
        let mut dice = dice(seed);
        if !early {
            world.run(&mut dice);
        }
        for (id, foreground) in &deletions {
            let policy = if *foreground {
                Policy::Foreground
            } else {
                Policy::Background
            };
            world.delete(*id, policy);
        }
        if restart {
            world.restart();
        }
        world.run(&mut dice);
        let left: BTreeSet<usize> = world.things.keys().copied().collect();
        prop_assert_eq!(left, expected);
    }

    #[test]
    fn an_owner_that_orphans_takes_nobody_with_it(things in things(), id in 0..SIZE, seed in any::<u64>()) {
        let mut world = World::new(things);
        let mut dice = dice(seed);
        world.run(&mut dice);
        let mut expected: BTreeSet<usize> = world.things.keys().copied().collect();
        expected.remove(&id);
        world.delete(id, Policy::Orphan);
        world.run(&mut dice);
        prop_assert!(world.things.values().all(|thing| thing.owners.iter().all(|(owner, _)| *owner != id)));
        let left: BTreeSet<usize> = world.things.keys().copied().collect();
        prop_assert_eq!(left, expected);
    }
}

#[test]
fn a_circle_of_owners_comes_to_its_end() {
    let thing = |owner| Thing {
        owners: vec![(owner, true)],
        deleting: false,
        finalizer: None,
    };
    let mut world = World::new([(0, thing(1)), (1, thing(0))].into());
    let mut dice = dice(7);
    world.run(&mut dice);
    assert_eq!(world.things.len(), 2);
    world.delete(0, Policy::Foreground);
    world.run(&mut dice);
    assert!(world.things.is_empty(), "{:?}", world.things);
}

#[test]
fn whoever_names_an_owner_that_came_and_went_unseen_is_looked_at() {
    let thing = |owners| Thing {
        owners,
        deleting: false,
        finalizer: None,
    };
    let world = World::new([(1, thing(vec![(7, false)])), (2, thing(vec![(8, false)]))].into());
    let mut graph = Graph::default();
    for (id, thing) in &world.things {
        graph.set(&uid_of(*id), item_of(*id, thing));
    }
    assert_eq!(graph.naming("ConfigMap", &ObjectKey::new("ns", "7")), [uid_of(1)]);
    assert!(graph.naming("Secret", &ObjectKey::new("ns", "7")).is_empty());
    assert!(
        graph
            .naming("ConfigMap", &ObjectKey::new("elsewhere", "7"))
            .is_empty()
    );
}
