use cloudeck_machinery::json;
use proptest::prelude::*;

use super::*;
use crate::pod::tests::object;
use crate::view::Facts;

/// A cluster of one Deployment: what the API server and the ReplicaSet controller would make of the plans.
struct World {
    deployment: Value,
    sets: Vec<Value>,
    now: i64,
    made: u32,
}

impl World {
    fn new(replicas: i64, surge: &str, unavailable: &str) -> Self {
        let text = format!(
            r#"{{"metadata":{{"name":"web","namespace":"ns","uid":"web","generation":1,"resourceVersion":"1"}},"spec":{{
            "replicas":{replicas},"revisionHistoryLimit":2,"progressDeadlineSeconds":600,
            "selector":{{"matchLabels":{{"app":"web"}}}},
            "strategy":{{"type":"RollingUpdate","rollingUpdate":{{"maxSurge":{surge},"maxUnavailable":{unavailable}}}}},
            "template":{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{"image":"one"}}}}}},"status":{{}}}}"#
        );
        Self {
            deployment: json::parse(text.as_bytes()).unwrap(),
            sets: Vec::new(),
            now: 1_000_000,
            made: 0,
        }
    }

    fn edit(&mut self, path: &[&str], value: impl Into<Value>) {
        self.deployment.set_at(path, value);
        let generation = self.deployment.int_at(&["metadata", "generation"]).unwrap();
        self.deployment
            .set_at(&["metadata", "generation"], generation + 1);
    }

    fn read(&self) -> (Deployment, Vec<Arc<ReplicaSet>>) {
        let deployment = Deployment::read(object("web", &self.deployment.to_string())).unwrap();
        let read = |tree: &Value| {
            let name = tree.str_at(&["metadata", "name"]).unwrap();
            Arc::new(ReplicaSet::read(object(name, &tree.to_string())).unwrap())
        };
        (deployment, self.sets.iter().map(read).collect())
    }

    fn look(&self) -> Plan {
        let (deployment, sets) = self.read();
        let has_pods = |uid: &str| self.has_pods(uid);
        decide(&Observed {
            deployment: &deployment,
            sets: &sets,
            has_pods: &has_pods,
            now: Now(self.now),
        })
    }

    fn has_pods(&self, uid: &str) -> bool {
        let set = self
            .sets
            .iter()
            .find(|set| set.str_at(&["metadata", "name"]) == Some(uid));
        set.is_some_and(|set| set.int_at(&["pods"]).unwrap_or(0) > 0)
    }

    /// Does what the plan says.
    fn step(&mut self) -> Vec<String> {
        let plan = self.look();
        let mut events = Vec::new();
        if let Some(mut set) = plan.create {
            self.made += 1;
            let at = format!("1970-01-01T00:{:02}:00Z", self.made);
            set.set_at(&["metadata", "creationTimestamp"], at);
            set.set_at(&["metadata", "generation"], 1);
            set.set_at(&["status"], Value::object());
            self.sets.push(set);
        }
        for (tree, event) in plan.update {
            let name = tree.str_at(&["metadata", "name"]).map(str::to_owned);
            let set = self
                .sets
                .iter_mut()
                .find(|set| set.str_at(&["metadata", "name"]) == name.as_deref());
            *set.unwrap() = tree;
            events.extend(event);
        }
        for gone in plan.delete {
            self.sets
                .retain(|set| set.str_at(&["metadata", "name"]) != Some(&*gone.object.key.name));
        }
        if let Some(tree) = plan.deployment {
            self.deployment = tree;
        }
        events
    }

    /// A ReplicaSet controller that makes `ready` of the missing pods ready and takes unready ones first.
    fn run_set(&mut self, at: usize, ready: i64) {
        let Some(set) = self.sets.get_mut(at) else { return };
        let wanted = set.int_at(&["spec", "replicas"]).unwrap();
        let available = set.int_at(&["status", "availableReplicas"]).unwrap_or(0);
        let available = (available + ready).min(wanted);
        for (field, count) in [
            ("replicas", wanted),
            ("readyReplicas", available),
            ("availableReplicas", available),
        ] {
            set.set_at(&["status", field], count);
        }
        set.set_at(&["status", "observedGeneration"], 1);
        set.set_at(&["status", "terminatingReplicas"], 0);
        set.set_at(&["pods"], wanted);
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            let before = (self.sets.clone(), self.deployment.clone());
            self.step();
            for at in 0..self.sets.len() {
                self.run_set(at, 1);
            }
            if before == (self.sets.clone(), self.deployment.clone()) {
                return;
            }
        }
        panic!("it never rests");
    }

    fn sizes(&self) -> Vec<i64> {
        self.sets
            .iter()
            .map(|set| set.int_at(&["spec", "replicas"]).unwrap())
            .collect()
    }

    fn condition(&self, kind: &str, field: &str) -> Option<&str> {
        let conditions = self.deployment.items_at(&["status", "conditions"]);
        super::super::conditions::find(conditions, kind)?.str_at(&[field])
    }
}

fn settled(replicas: i64) -> World {
    let mut world = World::new(replicas, r#""25%""#, r#""25%""#);
    world.settle();
    world
}

#[test]
fn the_first_set_is_made_at_full_size_with_revision_one() {
    let mut world = World::new(3, "1", "0");
    world.step();
    assert_eq!(world.sizes(), [3]);
    let set = &world.sets[0];
    assert_eq!(revision::annotation(set, revision::REVISION), Some("1"));
    assert_eq!(revision::annotation(set, revision::MAX_REPLICAS), Some("4"));
    assert_eq!(
        revision::annotation(&world.deployment, revision::REVISION),
        Some("1")
    );
    assert_eq!(
        world.condition("Progressing", "reason"),
        Some("NewReplicaSetCreated")
    );
    assert_eq!(
        world.condition("Available", "reason"),
        Some("MinimumReplicasUnavailable")
    );
}

#[test]
fn a_finished_rollout_is_told_and_rests() {
    let world = settled(3);
    assert_eq!(
        world.condition("Progressing", "reason"),
        Some("NewReplicaSetAvailable")
    );
    assert_eq!(world.condition("Available", "status"), Some("True"));
    assert_eq!(world.deployment.int_at(&["status", "updatedReplicas"]), Some(3));
    let plan = world.look();
    assert!(plan.create.is_none() && plan.update.is_empty() && plan.deployment.is_none());
    assert_eq!(plan.again, None);
}

#[test]
fn a_new_template_rolls_within_surge_and_unavailability() {
    let mut world = settled(4);
    world.edit(&["spec", "template", "spec", "image"], "two");
    world.step();
    // One more may be there, one may be missing.
    assert_eq!(world.sizes(), [3, 1]);
    world.step();
    assert_eq!(world.sizes(), [3, 2]);
    // Nothing more until new pods are available.
    assert_eq!(world.step(), Vec::<String>::new());
    world.settle();
    assert_eq!(world.sizes(), [0, 4]);
    assert_eq!(
        revision::annotation(&world.deployment, revision::REVISION),
        Some("2")
    );
}

#[test]
fn scaling_is_told_in_upstreams_words() {
    let mut world = settled(2);
    let name = world.sets[0].str_at(&["metadata", "name"]).unwrap().to_owned();
    world.edit(&["spec", "replicas"], 5);
    assert_eq!(
        world.step(),
        [format!("Scaled up replica set {name} from 2 to 5")]
    );
}

#[test]
fn a_rollback_reuses_the_old_set_under_a_new_revision() {
    let mut world = settled(2);
    world.edit(&["spec", "template", "spec", "image"], "two");
    world.settle();
    world.edit(&["spec", "template", "spec", "image"], "one");
    world.settle();
    assert_eq!(world.sizes(), [2, 0]);
    let old = &world.sets[0];
    assert_eq!(revision::annotation(old, revision::REVISION), Some("3"));
    assert_eq!(
        revision::annotation(old, "deployment.kubernetes.io/revision-history"),
        Some("1")
    );
}

#[test]
fn old_sets_beyond_the_history_limit_go() {
    let mut world = settled(1);
    for image in ["two", "three", "four", "five"] {
        world.edit(&["spec", "template", "spec", "image"], image);
        world.settle();
    }
    assert_eq!(world.sets.len(), 3);
    let revisions: Vec<_> = world
        .sets
        .iter()
        .map(|set| revision::annotation(set, revision::REVISION))
        .collect();
    assert_eq!(revisions, [Some("3"), Some("4"), Some("5")]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = settled(2);
    world.edit(&["spec", "paused"], true);
    world.edit(&["spec", "template", "spec", "image"], "two");
    world.settle();
    assert_eq!(world.sizes(), [2]);
    assert_eq!(world.condition("Progressing", "reason"), Some("DeploymentPaused"));
    world.edit(&["spec", "replicas"], 4);
    world.settle();
    assert_eq!(world.sizes(), [4]);
    world.edit(&["spec", "paused"], false);
    world.step();
    world.settle();
    assert_eq!(world.sizes(), [0, 4]);
    assert_eq!(
        world.condition("Progressing", "reason"),
        Some("NewReplicaSetAvailable")
    );
}

#[test]
fn scaling_in_a_rollout_gives_each_set_its_share() {
    let mut world = World::new(10, "3", "2");
    world.settle();
    world.edit(&["spec", "template", "spec", "image"], "two");
    for _ in 0..3 {
        world.step();
    }
    // Upstream's example: 8 and 5 of 10 with 3 more.
    assert_eq!(world.sizes(), [8, 5]);
    world.edit(&["spec", "replicas"], 15);
    world.step();
    assert_eq!(world.sizes(), [11, 7]);
}

#[test]
fn recreating_waits_until_the_old_pods_are_gone() {
    let mut world = settled(2);
    world.edit(
        &["spec", "strategy"],
        json::parse(br#"{"type":"Recreate"}"#).unwrap(),
    );
    world.edit(&["spec", "template", "spec", "image"], "two");
    world.step();
    assert_eq!(world.sizes(), [0]);
    // Its pods are still ending.
    world.sets[0].set_at(&["status", "replicas"], 0);
    world.step();
    assert_eq!(world.sizes(), [0]);
    // Its controller has not seen yet that it shall have none, and may be making one.
    world.sets[0].set_at(&["pods"], 0);
    world.sets[0].set_at(&["metadata", "generation"], 2);
    world.step();
    assert_eq!(world.sizes(), [0]);
    world.sets[0].set_at(&["status", "observedGeneration"], 2);
    let old = world.sets[0]
        .str_at(&["metadata", "name"])
        .map(CompactString::from);
    assert_eq!(world.look().replaces, old.map(|old| vec![old]));
    world.step();
    assert_eq!(world.sizes(), [0, 2]);
    assert_eq!(world.look().replaces, None);
}

#[test]
fn new_pods_come_when_the_server_knows_of_no_other_set_and_no_old_pod() {
    let world = settled(2);
    let (_, known) = world.read();
    let old = [known[0].object.uid.clone()];
    let fresh = [Arc::clone(&known[0].object)];
    let pod = |phase: &str| {
        let text = format!(
            r#"{{"metadata":{{"ownerReferences":[{{"kind":"ReplicaSet","name":"s","uid":"{}","controller":true}}]}},
            "status":{{"phase":"{phase}"}}}}"#,
            old[0]
        );
        Pod::read(object("p", &text)).unwrap()
    };
    assert!(is_replaced(&old, &known, &fresh, &[pod("Failed")]));
    assert!(!is_replaced(&old, &known, &fresh, &[pod("Running")]));
    assert!(!is_replaced(&old, &[], &fresh, &[]), "a set that the cache lacks");
    let mut newer = object(&old[0], &world.sets[0].to_string());
    Arc::get_mut(&mut newer).unwrap().revision += 1;
    assert!(!is_replaced(&old, &known, &[newer], &[]));
}

#[test]
fn a_rollout_without_progress_times_out() {
    let mut world = settled(2);
    world.edit(&["spec", "template", "spec", "image"], "two");
    for _ in 0..3 {
        world.step();
    }
    let left = world.look().again.unwrap();
    assert_eq!(left, Duration::from_secs(601));
    world.now += 601_000;
    world.step();
    assert_eq!(
        world.condition("Progressing", "reason"),
        Some("ProgressDeadlineExceeded")
    );
    let message = world.condition("Progressing", "message").unwrap();
    assert!(message.ends_with("\" has timed out progressing."), "{message}");
    assert_eq!(world.look().again, None);
}

#[test]
fn a_sets_failure_is_told_until_it_is_over() {
    let mut world = settled(1);
    let failure = r#"[{"type":"ReplicaFailure","status":"True","reason":"FailedCreate","message":"quota","lastTransitionTime":"1970-01-01T00:00:00Z"}]"#;
    world.sets[0].set_at(
        &["status", "conditions"],
        json::parse(failure.as_bytes()).unwrap(),
    );
    world.step();
    assert_eq!(world.condition("ReplicaFailure", "message"), Some("quota"));
    world.sets[0].remove_at(&["status", "conditions"]);
    world.step();
    assert_eq!(world.condition("ReplicaFailure", "message"), None);
}

#[test]
fn a_deleted_deployment_only_tells_its_status() {
    let mut world = settled(2);
    world.edit(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z");
    world.edit(&["spec", "template", "spec", "image"], "two");
    let plan = world.look();
    assert!(plan.create.is_none() && plan.update.is_empty() && plan.deployment.is_some());
}

#[derive(Debug, Clone)]
enum Act {
    Look,
    Run(usize, i64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        Just(Act::Look),
        (0..3_usize, 0..4_i64).prop_map(|(set, ready)| Act::Run(set, ready))
    ];
    prop::collection::vec(act, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_rolling_update_keeps_its_bounds_at_every_moment_and_ends(
        replicas in 1..12_i64, surge in 0..4_i64, unavailable in 0..4_i64, first in acts(), second in acts(),
    ) {
        let mut world = World::new(replicas, &surge.to_string(), &unavailable.to_string());
        world.settle();
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        for (image, acts) in [("two", first), ("three", second)] {
            world.edit(&["spec", "template", "spec", "image"], image);
            for act in acts {
                match act {
                    Act::Look => drop(world.step()),
                    Act::Run(set, ready) => world.run_set(set, ready),
                }
                let total: i64 = world.sizes().iter().sum();
                prop_assert!(total <= replicas + surge, "{:?}", world.sizes());
                let kept = world.sets.iter().map(|set| {
                    let available = set.int_at(&["status", "availableReplicas"]).unwrap_or(0);
                    available.min(set.int_at(&["spec", "replicas"]).unwrap())
                });
                let available: i64 = kept.sum();
                prop_assert!(available >= replicas - unavailable, "{available} of {:?}", world.sizes());
            }
        }
        world.settle();
        prop_assert_eq!(*world.sizes().last().unwrap(), replicas);
        prop_assert_eq!(world.sizes().iter().sum::<i64>(), replicas);
    }
}
