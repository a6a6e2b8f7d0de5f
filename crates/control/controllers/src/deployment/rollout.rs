//! A Deployment and its ReplicaSets as they will be once what is decided so far has been done.

use std::sync::Arc;

use cloudeck_machinery::{Time, Value, value};
use compact_str::CompactString;

use super::facts::Deployment;
use super::{conditions, hash, revision};
use crate::clock::Now;
use crate::replicaset::facts::ReplicaSet;
use crate::write;

const HASH_LABEL: &str = "pod-template-hash";
const LONGEST_NAME: usize = 253;

/// A ReplicaSet with the changes decided so far.
pub(super) struct Member {
    /// `None` while it is still to be created.
    pub(super) set: Option<Arc<ReplicaSet>>,
    pub(super) tree: Value,
    pub(super) replicas: i64,
    pub(super) changed: bool,
    /// What its scaling is told as.
    pub(super) event: Option<String>,
}

impl Member {
    fn of(set: Arc<ReplicaSet>) -> Self {
        Self {
            tree: set.tree.clone(),
            replicas: set.replicas,
            set: Some(set),
            changed: false,
            event: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.tree.str_at(&["metadata", "name"]).unwrap_or_default()
    }

    /// A count of the status, zero when absent.
    pub(super) fn count(&self, field: &str) -> i64 {
        self.set.as_ref().map_or(0, |set| set.count(field))
    }

    pub(super) fn available(&self) -> i64 {
        self.count("availableReplicas")
    }

    /// Youngest last; what is still to be created is youngest.
    pub(super) fn age_key(&self) -> (bool, Option<Time>, &str) {
        (
            self.set.is_none(),
            self.set.as_ref().and_then(|set| set.created),
            self.name(),
        )
    }
}

pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Deployment,
    /// The set with the Deployment's template.
    pub(super) new: Option<Member>,
    /// The others, oldest first.
    pub(super) old: Vec<Member>,
    pub(super) conditions: Vec<Value>,
    /// The Deployment's revision annotation.
    pub(super) revision: Option<String>,
    pub(super) delete: Vec<Arc<ReplicaSet>>,
    /// See `Plan::replaces`.
    pub(super) replaces: Option<Vec<CompactString>>,
    pub(super) now: Now,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(deployment: &'a Deployment, sets: &[Arc<ReplicaSet>], now: Now) -> Self {
        let mut members: Vec<Member> = sets.iter().map(|set| Member::of(Arc::clone(set))).collect();
        members.sort_by(|a, b| a.age_key().cmp(&b.age_key()));
        let template = deployment.tree.at(&["spec", "template"]);
        let newest = members
            .iter()
            .position(|member| equal_but_for_hash(template, member.tree.at(&["spec", "template"])));
        let new = newest.map(|at| members.remove(at));
        Self {
            deployment,
            new,
            old: members,
            conditions: deployment.tree.items_at(&["status", "conditions"]).to_vec(),
            revision: revision::annotation(&deployment.tree, revision::REVISION).map(str::to_owned),
            delete: Vec::new(),
            replaces: None,
            now,
        }
    }

    /// All members, the new one last.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn total(&self) -> i64 {
        self.members().map(|member| member.replicas).sum()
    }

    pub(super) fn sum(&self, field: &str) -> i64 {
        self.members().map(|member| member.count(field)).sum()
    }

    fn next_revision(&self) -> i64 {
        let old = self
            .old
            .iter()
            .filter_map(|member| revision::revision(&member.tree));
        old.max().unwrap_or(0).max(0) + 1
    }

    /// Brings the new set's annotations and the Deployment's revision up to date.
    pub(super) fn sync_revision(&mut self) {
        let wanted = self.next_revision();
        let deployment = self.deployment;
        let Some(new) = &mut self.new else { return };
        new.changed |= revision::mark_newest(deployment, &mut new.tree, wanted);
        let min_ready = deployment.min_ready_seconds;
        if new
            .set
            .as_ref()
            .is_some_and(|set| set.min_ready_seconds != min_ready)
        {
            new.tree.set_at(&["spec", "minReadySeconds"], min_ready);
            new.changed = true;
        }
        self.revision = revision::annotation(&new.tree, revision::REVISION).map(str::to_owned);
        let unknown = conditions::find(&self.conditions, conditions::PROGRESSING).is_none();
        if deployment.progress_deadline.is_some() && unknown {
            let message = format!("Found new replica set \"{}\"", new.name());
            let found = conditions::progressing("True", "FoundNewReplicaSet", &message, self.now);
            conditions::set(&mut self.conditions, found);
        }
    }

    /// Creates the new set if there is none.
    pub(super) fn ensure_new(&mut self) {
        if self.new.is_some() {
            return;
        }
        let revision = self.next_revision();
        let mut tree = self.new_set();
        let replicas = self.room_for_new(0);
        tree.set_at(&["spec", "replicas"], replicas);
        revision::mark_newest(self.deployment, &mut tree, revision);
        revision::set_sizes(self.deployment, &mut tree);
        if self.deployment.progress_deadline.is_some() {
            let name = tree.str_at(&["metadata", "name"]).unwrap_or_default();
            let message = format!("Created new replica set \"{name}\"");
            let created = conditions::progressing("True", "NewReplicaSetCreated", &message, self.now);
            conditions::set(&mut self.conditions, created);
        }
        self.revision = Some(revision.to_string());
        self.new = Some(Member {
            set: None,
            tree,
            replicas,
            changed: true,
            event: None,
        });
    }

    /// How large the new set may be, being of the given size.
    pub(super) fn room_for_new(&self, present: i64) -> i64 {
        let deployment = self.deployment;
        if deployment.recreates {
            return deployment.replicas;
        }
        let room = deployment.max_replicas() - self.total();
        if room <= 0 {
            return present;
        }
        present + room.min(deployment.replicas - present)
    }

    fn new_set(&self) -> Value {
        let deployment = self.deployment;
        let mut template = deployment
            .tree
            .at(&["spec", "template"])
            .cloned()
            .unwrap_or_default();
        let collisions = deployment.tree.int_at(&["status", "collisionCount"]);
        let hash = hash::template_hash(&template, collisions);
        template.set_at(&["metadata", "labels", HASH_LABEL], hash.as_str());
        let mut selector = deployment
            .tree
            .at(&["spec", "selector"])
            .cloned()
            .unwrap_or_default();
        selector.set_at(&["matchLabels", HASH_LABEL], hash.as_str());
        let labels = template.at(&["metadata", "labels"]).cloned().unwrap_or_default();
        let mut name = deployment.name().to_owned();
        name.truncate(LONGEST_NAME - 1 - hash.len());
        let owner = write::controller_reference("apps/v1", "Deployment", &deployment.object);
        let mut set = value!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": (format!("{name}-{hash}")), "namespace": (deployment.object.key.namespace.clone()),
                "labels": (labels), "ownerReferences": [(owner)]
            },
            "spec": {"selector": (selector), "template": (template)}
        });
        if deployment.min_ready_seconds != 0 {
            set.set_at(&["spec", "minReadySeconds"], deployment.min_ready_seconds);
        }
        set
    }

    /// Sets old sets without pods beyond the history limit aside for deletion, oldest revisions first.
    pub(super) fn clean_up(&mut self) {
        let Some(limit) = self.deployment.history_limit else {
            return;
        };
        let living = self.old.iter().filter_map(|member| member.set.as_ref());
        let mut living: Vec<&Arc<ReplicaSet>> = living.filter(|set| !set.deleting).collect();
        let surplus = living.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        living.sort_by_key(|set| (revision::revision(&set.tree).unwrap_or(0), set.created));
        let empty = |set: &ReplicaSet| {
            set.count("replicas") == 0
                && set.replicas == 0
                && set.generation() <= set.count("observedGeneration")
        };
        let gone = living.into_iter().take(surplus).filter(|set| empty(set));
        self.delete = gone.cloned().collect();
    }
}

/// Gives a member another size. Without `force`, annotations are brought up to date only with the size. Answers
/// whether the size changed.
pub(super) fn scale(deployment: &Deployment, member: &mut Member, replicas: i64, force: bool) -> bool {
    let resized = member.replicas != replicas;
    if !resized && !force {
        return false;
    }
    member.changed |= revision::set_sizes(deployment, &mut member.tree) || resized;
    if resized {
        let direction = if member.replicas < replicas { "up" } else { "down" };
        let from = member.set.as_ref().map_or(0, |set| set.replicas);
        member.event = Some(format!(
            "Scaled {direction} replica set {} from {from} to {replicas}",
            member.name()
        ));
        member.tree.set_at(&["spec", "replicas"], replicas);
        member.replicas = replicas;
    }
    resized
}

fn equal_but_for_hash(a: Option<&Value>, b: Option<&Value>) -> bool {
    let bare = |template: Option<&Value>| {
        let mut template = template.cloned().unwrap_or_default();
        template.remove_at(&["metadata", "labels", HASH_LABEL]);
        template
    };
    bare(a) == bare(b)
}

/// Whether a ReplicaSet read from the server is the one that the tree was meant to make.
pub(super) fn is_same_creation(wanted: &Value, present: &Value, owner_uid: &str) -> bool {
    let owner = crate::replicaset::facts::owner(present);
    let template = |tree: &'_ Value| tree.at(&["spec", "template"]).cloned();
    owner.is_some_and(|owner| owner.uid == owner_uid)
        && equal_but_for_hash(template(wanted).as_ref(), template(present).as_ref())
}
