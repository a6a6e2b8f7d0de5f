//! DELETE: at once, gracefully, or when the last finalizer is gone.

use std::sync::Arc;

use cloudeck_admission::Operation;
use cloudeck_client::Response;
use cloudeck_engine::Txn;
use cloudeck_machinery::{Cause, CauseType, Object, Status, Time, Value, json, value};

use super::commit::{self, Expect, Refusal, Retries};
use super::decode::{self, Expected};
use super::warnings::Warnings;
use super::{Call, admit, facts, list, meta, options};
use crate::alloc;
use crate::kinds::Kind;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// `DeleteOptions`, from the body and the query.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    grace_seconds: Option<i64>,
    propagation: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    dry_run: Vec<String>,
    /// Both the old and the new way of saying what becomes of dependents.
    is_ambiguous: bool,
}

/// What a deletion comes to.
enum Outcome {
    /// Gone.
    Deleted(Arc<Object>),
    /// Marked, and waiting for finalizers or the node.
    Marked(Arc<Object>),
}

pub(crate) async fn delete(call: &mut Call<'_>) -> Result<Response, Status> {
    let options = DeleteOptions::read(call)?;
    if options.propagation.is_none() && call.kind().is("batch", "jobs") {
        call.warn(PODS_STAY);
    }
    let outcome = delete_object(call, &options).await?;
    Ok(match outcome {
        Outcome::Marked(object) => call.answer(&object, false),
        Outcome::Deleted(object) if facts::returns_deleted_object(call.kind()) => call.answer(&object, false),
        Outcome::Deleted(object) => success(call, &object),
    })
}

/// Deletes an object through the usual path, for other subresources: evictions.
pub(crate) async fn delete_with(call: &mut Call<'_>, options: &DeleteOptions) -> Result<(), Status> {
    delete_object(call, options).await.map(|_| ())
}

/// Deletes everything that the selectors select; answers with what there was.
pub(crate) async fn delete_collection(call: &mut Call<'_>) -> Result<Response, Status> {
    let options = DeleteOptions::read(call)?;
    let list = list::select(call)?;
    let mut request = call.request.clone();
    for object in &list.items {
        request.namespace = object.key.namespace.to_string();
        request.name = object.key.name.to_string();
        let mut one = Call {
            core: call.core,
            user: call.user,
            agent: call.agent,
            request: &request,
            view: call.view,
            warnings: Warnings::default(),
        };
        match delete_object(&mut one, &options).await {
            Ok(_) => {}
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    Ok(Response::List(list))
}

async fn delete_object(call: &mut Call<'_>, options: &DeleteOptions) -> Result<Outcome, Status> {
    let retries = Retries::begin();
    loop {
        let current = call.current()?;
        options.check_preconditions(call, &current)?;
        match attempt(call, options, &current).await {
            Ok(outcome) => return Ok(outcome),
            Err(Refusal::Status(status)) => return Err(status),
            Err(Refusal::Changed) => retries.next()?,
        }
    }
}

async fn attempt(
    call: &mut Call<'_>,
    options: &DeleteOptions,
    current: &Arc<Object>,
) -> Result<Outcome, Refusal> {
    let kind = Arc::clone(call.kind());
    let old = current.tree();
    let mut new = old.clone();
    let dry_run = options.is_dry_run() || call.is_dry_run();
    admit::mutate(call, Operation::Delete, &mut Value::Null, Some(&old)).await?;
    admit::validate(call, Operation::Delete, &mut Value::Null, Some(&old))?;
    options.set_finalizers(&kind, &mut new);
    let grace = grace_seconds(&kind, &old, options.grace_seconds);
    mark(call.core.clock.seconds(), &mut new, grace);
    if kind.is("", "namespaces") && !old.items_at(&["spec", "finalizers"]).is_empty() {
        new.set_at(&["status", "phase"], "Terminating");
    }
    if is_finished(&kind, &new) {
        if dry_run {
            return Ok(Outcome::Deleted(Arc::clone(current)));
        }
        let base = alloc::release(call.core, &kind, &old);
        let revision = commit::delete(call.core, &kind, current, base).await?;
        return Ok(Outcome::Deleted(Arc::new(crate::cache::splice::under_revision(
            current, revision,
        ))));
    }
    if new == old {
        return Ok(Outcome::Marked(Arc::clone(current)));
    }
    if dry_run {
        return Ok(Outcome::Marked(commit::pretend(
            &kind,
            &mut new,
            current.revision,
        )?));
    }
    if facts::has_generation(&kind) && old.at(&["metadata", "deletionTimestamp"]).is_none() {
        let generation = old.int_at(&["metadata", "generation"]).unwrap_or(0) + 1;
        new.set_at(&["metadata", "generation"], generation);
    }
    let expect = Expect::At(current.revision);
    commit::put(call.core, &kind, &current.key, &mut new, expect, Txn::new())
        .await
        .map(Outcome::Marked)
}

/// How long the object may take to end: only pods have a say in it.
fn grace_seconds(kind: &Kind, old: &Value, asked: Option<i64>) -> i64 {
    if !kind.is("", "pods") {
        return 0;
    }
    let unscheduled = old.str_at(&["spec", "nodeName"]).unwrap_or_default().is_empty();
    let over = matches!(old.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"));
    if unscheduled || over {
        return 0;
    }
    let own = old
        .int_at(&["spec", "terminationGracePeriodSeconds"])
        .unwrap_or(30);
    // A negative period means one second, as upstream has it.
    match asked.unwrap_or(own) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// Sets the time of death, which may only come nearer.
///
/// (Upstream adds any period to the time, and with one of centuries stores what no client can read.)
fn mark(now: i64, new: &mut Value, grace: i64) {
    let previous = new.int_at(&["metadata", "deletionGracePeriodSeconds"]);
    let marked = new.at(&["metadata", "deletionTimestamp"]).is_some();
    let start = if marked {
        deletion_start(new, previous).unwrap_or(now)
    } else {
        now
    };
    let latest = jiff::Timestamp::MAX.as_second();
    let grace = grace.min(latest.saturating_sub(start));
    if marked && previous.is_some_and(|previous| grace >= previous) {
        return;
    }
    if marked && previous.is_none() {
        return;
    }
    let end = Time::from_unix(start.saturating_add(grace));
    new.set_at(&["metadata", "deletionTimestamp"], end.to_string());
    new.set_at(&["metadata", "deletionGracePeriodSeconds"], grace);
}

/// When the graceful deletion began.
fn deletion_start(tree: &Value, grace: Option<i64>) -> Option<i64> {
    let text = tree.str_at(&["metadata", "deletionTimestamp"])?;
    let end: jiff::Timestamp = text.parse().ok()?;
    Some(end.as_second().saturating_sub(grace.unwrap_or(0)))
}

/// Whether a marked object has nothing left to wait for.
pub(crate) fn is_finished(kind: &Kind, tree: &Value) -> bool {
    let marked = tree.at(&["metadata", "deletionTimestamp"]).is_some();
    let grace = tree
        .int_at(&["metadata", "deletionGracePeriodSeconds"])
        .unwrap_or(0);
    let emptied = !kind.is("", "namespaces") || tree.items_at(&["spec", "finalizers"]).is_empty();
    marked && grace == 0 && emptied && !meta::has_finalizers(tree)
}

fn success(call: &Call<'_>, object: &Object) -> Response {
    let mut details =
        value!({"name": (&*object.key.name), "kind": (call.view.plural()), "uid": (&*object.uid)});
    if !call.view.group().is_empty() {
        details.set_at(&["group"], call.view.group());
    }
    let status = value!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": (details)
    });
    Response::Json {
        bytes: json::to_vec(&status).into(),
        code: 200,
    }
}

impl DeleteOptions {
    /// Reads the body, or the query parameters when there is none.
    pub(crate) fn read(call: &Call<'_>) -> Result<Self, Status> {
        let params = &call.request.params;
        if call.request.body.bytes.is_empty() {
            let propagation = Some(params.propagation_policy.clone()).filter(|policy| !policy.is_empty());
            let options = Self {
                grace_seconds: params.grace_period_seconds,
                propagation,
                dry_run: params.dry_run.clone(),
                ..Self::default()
            };
            return options.checked();
        }
        let ty = cloudeck_schema::type_of_kind("", "v1", "DeleteOptions")
            .ok_or_else(|| Status::internal("no schema of DeleteOptions"))?;
        let mut tree = decode::parse(
            &call.request.body,
            Expected {
                api_version: "v1",
                kind: "DeleteOptions",
                ty,
            },
            &mut Vec::new(),
        )?;
        // Clients send it under any group version.
        tree.set_at(&["apiVersion"], "v1");
        let tree = decode::lenient_tree(
            tree,
            Expected {
                api_version: "v1",
                kind: "DeleteOptions",
                ty,
            },
        )?;
        Self::from_tree(&tree).checked()
    }

    pub(crate) fn from_tree(tree: &Value) -> Self {
        let text = |path: &[&str]| tree.str_at(path).map(str::to_owned);
        let orphan = tree.bool_at(&["orphanDependents"]);
        let legacy = orphan.map(|orphan| if orphan { "Orphan" } else { "Background" }.to_owned());
        let policy = text(&["propagationPolicy"]);
        let dry_run = tree.items_at(&["dryRun"]).iter().filter_map(Value::as_str);
        Self {
            grace_seconds: tree.int_at(&["gracePeriodSeconds"]),
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
            dry_run: dry_run.map(str::to_owned).collect(),
            is_ambiguous: policy.is_some() && legacy.is_some(),
            propagation: policy.or(legacy),
        }
    }

    /// The same, if the object is at that revision only.
    pub(crate) fn only_at(&self, revision: u64) -> Self {
        Self {
            resource_version: Some(revision.to_string()),
            ..self.clone()
        }
    }

    /// Whether nothing is to be written.
    pub(crate) fn is_dry_run(&self) -> bool {
        !self.dry_run.is_empty()
    }

    fn checked(self) -> Result<Self, Status> {
        let mut causes = Vec::new();
        let policy = self.propagation.as_deref();
        if self.is_ambiguous {
            let policy = policy.unwrap_or_default();
            causes.push(Cause {
                cause: CauseType::Invalid,
                message: format!(
                    "Invalid value: {policy:?}: orphanDependents and deletionPropagation cannot be both set"
                ),
                field: "propagationPolicy".into(),
            });
        }
        if let Some(other) =
            policy.filter(|policy| !matches!(*policy, "Orphan" | "Background" | "Foreground"))
        {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            causes.push(options::not_supported("propagationPolicy", &other.into(), &known));
        }
        causes.extend(options::dry_run(&self.dry_run));
        options::refuse("DeleteOptions", causes)?;
        Ok(self)
    }

    fn check_preconditions(&self, call: &Call<'_>, current: &Object) -> Result<(), Status> {
        let conflict =
            |why: String| Status::conflict(call.view.group(), call.view.plural(), &call.request.name, &why);
        if let Some(uid) = self.uid.as_deref().filter(|uid| *uid != current.uid) {
            return Err(conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                current.uid
            )));
        }
        let revision = current.revision.to_string();
        if let Some(version) = self
            .resource_version
            .as_deref()
            .filter(|version| *version != revision)
        {
            return Err(conflict(format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {revision}"
            )));
        }
        Ok(())
    }

    /// The garbage collector reads its orders from finalizers.
    fn set_finalizers(&self, kind: &Kind, tree: &mut Value) {
        if kind.is("", "namespaces") {
            return;
        }
        let settled = tree
            .items_at(&["metadata", "finalizers"])
            .iter()
            .any(|name| matches!(name.as_str(), Some(ORPHAN | FOREGROUND)));
        let default = (facts::orphans_by_default(kind) && !settled).then_some("Orphan");
        let Some(policy) = self.propagation.as_deref().or(default) else {
            return;
        };
        let wanted = match policy {
            "Orphan" => Some(ORPHAN),
            "Foreground" => Some(FOREGROUND),
            _ => None,
        };
        let mut finalizers: Vec<Value> = tree.items_at(&["metadata", "finalizers"]).to_vec();
        finalizers.retain(|name| !matches!(name.as_str(), Some(ORPHAN | FOREGROUND)));
        finalizers.extend(wanted.map(Value::from));
        if finalizers.is_empty() {
            tree.remove_at(&["metadata", "finalizers"]);
        } else {
            tree.set_at(&["metadata", "finalizers"], finalizers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_of_centuries_ends_at_a_time_that_can_be_read() {
        let now = 1_800_000_000;
        for grace in [30, 1 << 40, i64::MAX] {
            let mut pod = value!({"metadata": {}});
            mark(now, &mut pod, grace);
            let end: jiff::Timestamp = pod
                .str_at(&["metadata", "deletionTimestamp"])
                .unwrap()
                .parse()
                .unwrap();
            let kept = pod.int_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap();
            assert_eq!((end.as_second(), kept <= grace), (now + kept, true));
            mark(now + 5, &mut pod, grace);
            assert_eq!(
                pod.int_at(&["metadata", "deletionGracePeriodSeconds"]),
                Some(kept)
            );
            mark(now + 5, &mut pod, 10);
            let end = Time::from_unix(now + 10).to_string();
            assert_eq!(pod.str_at(&["metadata", "deletionTimestamp"]), Some(end.as_str()));
        }
    }
}
