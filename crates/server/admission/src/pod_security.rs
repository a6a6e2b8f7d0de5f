//! PodSecurity: a namespace's labels say which pod security standard its pods are held to.
//!
//! `enforce` refuses pods, `audit` and `warn` only tell; the latter two also look at what makes pods (deployments and the
//! like). The standards are in [`checks`], versioned as upstream's.

mod baseline;
mod checks;
mod policy;
mod restricted;

use std::collections::BTreeMap;

use cloudeck_machinery::{Status, Value};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal, Remarks};
use checks::{Pod, violations};
use policy::{Level, LevelVersion, Policy};

/// How many pods are looked at when a namespace's level rises.
const MAX_PODS: usize = 3_000;

pub(crate) struct PodSecurity;

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        match (request.group, request.resource) {
            ("", "namespaces") if request.subresource.is_empty() => {
                check_namespace(request, context, remarks)
            }
            ("", "pods") => check_pod(request, context, remarks),
            _ if request.subresource.is_empty() => {
                check_template(request, context, remarks);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn check_namespace(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    remarks: &mut Remarks,
) -> Result<(), Refusal> {
    let (new, errors) = Policy::of(&request.object);
    let (old, old_errors) = request.old.map(Policy::of).unwrap_or_default();
    if !errors.is_empty() && (request.operation == Operation::Create || errors != old_errors) {
        return Err(Refusal::new(Status::invalid(
            "",
            "Namespace",
            request.name,
            errors,
        )));
    }
    let relaxed = new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
    let unchanged = new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed;
    if request.operation == Operation::Update && !unchanged {
        let name = request
            .object
            .str_at(&["metadata", "name"])
            .unwrap_or(request.name);
        remarks
            .warnings
            .extend(existing_violations(context, name, new.enforce));
    }
    Ok(())
}

/// What the pods that run already violate, grouped by violation.
fn existing_violations(context: &Context<'_>, namespace: &str, enforce: LevelVersion) -> Vec<String> {
    let pods = context.reader.list("", "pods", namespace);
    let mut by_violation: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(MAX_PODS) {
        let tree = pod.tree();
        let found = violations(enforce, &Pod::new(&tree, &tree));
        if found.is_empty() {
            continue;
        }
        let reasons: Vec<&str> = found.iter().map(|violation| violation.reason.as_str()).collect();
        // Pods come in name order: the first is named.
        let entry = by_violation
            .entry(reasons.join(", "))
            .or_insert_with(|| (pod.key.name.to_string(), 0));
        entry.1 += 1;
    }
    let mut warnings = Vec::new();
    if pods.len() > MAX_PODS {
        let total = pods.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MAX_PODS} of {total} existing pods"
        ));
    }
    if !by_violation.is_empty() {
        warnings.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = by_violation
        .into_iter()
        .map(|(reasons, (first, count))| match count {
            1 => format!("{first}: {reasons}"),
            2 => format!("{first} (and 1 other pod): {reasons}"),
            _ => format!("{first} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

fn check_pod(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    remarks: &mut Remarks,
) -> Result<(), Refusal> {
    const IGNORED: [&str; 8] = [
        "exec",
        "attach",
        "binding",
        "eviction",
        "log",
        "portforward",
        "proxy",
        "status",
    ];
    if IGNORED.contains(&request.subresource) {
        return Ok(());
    }
    let Some(namespace) = context.reader.get("", "namespaces", "", request.namespace) else {
        let why = format!("failed to lookup namespace \"{}\"", request.namespace);
        return Err(Refusal::new(Status::internal(why)));
    };
    let (policy, _) = Policy::of(namespace.kept_tree());
    let insignificant = request
        .old
        .is_some_and(|old| !is_significant(&request.object, old));
    if policy.is_privileged() || insignificant {
        return Ok(());
    }
    let pod = Pod::new(&request.object, &request.object);
    let key = |name: &str| format!("pod-security.kubernetes.io/{name}");
    remarks
        .audit
        .push((key("enforce-policy"), policy.enforce.to_string()));
    if let Some(detail) = detail(policy.enforce, &pod) {
        return Err(request.forbid(format!("violates PodSecurity \"{}\": {detail}", policy.enforce)));
    }
    tell(&policy, &pod, remarks);
    Ok(())
}

fn check_template(request: &AdmissionRequest<'_>, context: &Context<'_>, remarks: &mut Remarks) {
    let path: &[&str] = match (request.group, request.resource) {
        ("", "podtemplates") => &["template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        _ => return,
    };
    let Some(template) = request.object.at(path).filter(|template| !template.is_null()) else {
        return;
    };
    let Some(namespace) = context.reader.get("", "namespaces", "", request.namespace) else {
        return;
    };
    let (policy, _) = Policy::of(namespace.kept_tree());
    tell(&policy, &Pod::new(template, template), remarks);
}

/// Remarks for `audit` and `warn`.
fn tell(policy: &Policy, pod: &Pod<'_>, remarks: &mut Remarks) {
    let would = |level: LevelVersion| {
        detail(level, pod).map(|detail| format!("would violate PodSecurity \"{level}\": {detail}"))
    };
    if let Some(text) = would(policy.audit) {
        remarks
            .audit
            .push(("pod-security.kubernetes.io/audit-violations".to_owned(), text));
    }
    remarks.warnings.extend(would(policy.warn));
}

fn detail(level: LevelVersion, pod: &Pod<'_>) -> Option<String> {
    let found = violations(level, pod);
    let parts: Vec<String> = found.iter().map(ToString::to_string).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Whether an update changes something that the standards look at; most fields of a pod cannot change.
fn is_significant(new: &Value, old: &Value) -> bool {
    let differs = |one: &Value, other: &Value| {
        let name = one.str_at(&["name"]).unwrap_or_default();
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{name}");
        let annotation = |pod: &'_ Value| pod.at(&["metadata", "annotations", &key]).cloned();
        one.get("image") != other.get("image") || annotation(new) != annotation(old)
    };
    for list in ["containers", "initContainers"] {
        let (new, old) = (new.items_at(&["spec", list]), old.items_at(&["spec", list]));
        if new.len() != old.len() || new.iter().zip(old).any(|(new, old)| differs(new, old)) {
            return true;
        }
    }
    let old_debuggers = old.items_at(&["spec", "ephemeralContainers"]);
    new.items_at(&["spec", "ephemeralContainers"])
        .iter()
        .any(|container| {
            let before = old_debuggers
                .iter()
                .find(|old| old.get("name") == container.get("name"));
            before.is_none_or(|before| differs(container, before))
        })
}

#[cfg(test)]
mod tests;
