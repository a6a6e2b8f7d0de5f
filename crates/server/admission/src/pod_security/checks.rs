//! The standards as a table of checks, and what checks share.

use std::collections::BTreeSet;
use std::fmt;

use cloudeck_machinery::Value;

use super::policy::{Level, LevelVersion};
use super::{baseline, restricted};

/// A pod or pod template as checks see it.
pub(super) struct Pod<'a> {
    pub(super) annotations: Option<&'a Value>,
    pub(super) spec: &'a Value,
    /// Init, main and ephemeral containers, in this order.
    pub(super) containers: Vec<&'a Value>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

type Check = fn(&Pod<'_>) -> Option<Violation>;

/// Editions of one check, oldest first: the minor version from which it holds.
struct Rule {
    editions: &'static [(u32, Check)],
    /// A baseline rule that gives way to a stricter one from this minor version.
    replaced_from: Option<u32>,
}

const fn rule(editions: &'static [(u32, Check)]) -> Rule {
    Rule {
        editions,
        replaced_from: None,
    }
}

const fn replaced(from: u32, editions: &'static [(u32, Check)]) -> Rule {
    Rule {
        editions,
        replaced_from: Some(from),
    }
}

/// In the order of upstream's identifiers, which is the order of messages.
const BASELINE: [Rule; 12] = [
    rule(&[(0, baseline::app_armor)]),
    replaced(22, &[(0, baseline::capabilities)]),
    rule(&[(0, baseline::host_namespaces)]),
    replaced(0, &[(0, baseline::host_path_volumes)]),
    rule(&[(0, baseline::host_ports)]),
    rule(&[(34, baseline::host_probes)]),
    rule(&[(0, baseline::privileged)]),
    replaced(
        35,
        &[
            (0, baseline::proc_mount),
            (35, baseline::proc_mount_unless_user_namespace),
        ],
    ),
    rule(&[(0, baseline::se_linux_1_0), (31, baseline::se_linux_1_31)]),
    replaced(19, &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    rule(&[
        (0, baseline::sysctls_1_0),
        (27, baseline::sysctls_1_27),
        (29, baseline::sysctls_1_29),
        (32, baseline::sysctls_1_32),
        (37, baseline::sysctls_1_37),
    ]),
    rule(&[(0, baseline::windows_host_process)]),
];

const RESTRICTED: [Rule; 7] = [
    rule(&[
        (8, restricted::privilege_escalation),
        (25, restricted::privilege_escalation_unless_windows),
    ]),
    rule(&[
        (22, restricted::capabilities),
        (25, restricted::capabilities_unless_windows),
    ]),
    rule(&[(35, baseline::proc_mount)]),
    rule(&[(0, restricted::volumes)]),
    rule(&[
        (0, restricted::run_as_non_root),
        (35, restricted::run_as_non_root_unless_user_namespace),
    ]),
    rule(&[
        (23, restricted::run_as_user),
        (35, restricted::run_as_user_unless_user_namespace),
    ]),
    rule(&[
        (19, restricted::seccomp),
        (25, restricted::seccomp_unless_windows),
    ]),
];

/// All violations of a standard, in upstream's order.
pub(super) fn violations(standard: LevelVersion, pod: &Pod<'_>) -> Vec<Violation> {
    let version = standard.version;
    let restricted: &[Rule] = match standard.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[],
        Level::Restricted => &RESTRICTED,
    };
    let gives_way = |rule: &&Rule| {
        standard.level == Level::Restricted && rule.replaced_from.is_some_and(|minor| version.has(minor))
    };
    let rules = BASELINE.iter().filter(|rule| !gives_way(rule)).chain(restricted);
    let current = |rule: &Rule| {
        rule.editions
            .iter()
            .rev()
            .find(|(minor, _)| version.has(*minor))
            .map(|(_, check)| *check)
    };
    rules.filter_map(current).filter_map(|check| check(pod)).collect()
}

impl<'a> Pod<'a> {
    /// From the objects that hold `metadata` and `spec`.
    pub(super) fn new(meta: &'a Value, spec: &'a Value) -> Self {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        Self {
            annotations: meta.at(&["metadata", "annotations"]),
            spec: spec.get("spec").unwrap_or(&Value::Null),
            containers: lists
                .iter()
                .flat_map(|list| spec.items_at(&["spec", list]))
                .collect(),
        }
    }

    pub(super) fn is_windows(&self) -> bool {
        self.spec.str_at(&["os", "name"]) == Some("windows")
    }

    /// A user namespace makes root and a bare /proc harmless.
    pub(super) fn has_user_namespace(&self) -> bool {
        self.spec.bool_at(&["hostUsers"]) == Some(false)
    }

    /// The names of the containers of which `bad` is true.
    pub(super) fn containers_where(&self, mut bad: impl FnMut(&Value) -> bool) -> Vec<String> {
        self.containers
            .iter()
            .filter(|container| bad(container))
            .map(|container| name_of(container))
            .collect()
    }
}

impl Violation {
    pub(super) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => f.write_str(&self.reason),
            detail => write!(f, "{} ({detail})", self.reason),
        }
    }
}

pub(super) fn name_of(container: &Value) -> String {
    container.str_at(&["name"]).unwrap_or_default().to_owned()
}

/// `"a", "b"`.
pub(super) fn join_quoted<'i>(items: impl IntoIterator<Item = &'i String>) -> String {
    items
        .into_iter()
        .map(|item| format!("\"{item}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn containers(names: &[String]) -> String {
    format!(
        "{} {}",
        plural("container", "containers", names.len()),
        join_quoted(names)
    )
}

pub(super) fn plural(one: &'static str, many: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { many }
}

/// `pod`, `container "a"`, or `pod and container "a"`: whoever sets something bad.
pub(super) fn setters(pod: bool, names: &[String]) -> Option<String> {
    let of_containers = (!names.is_empty()).then(|| containers(names));
    match (pod, of_containers) {
        (true, Some(containers)) => Some(format!("pod and {containers}")),
        (true, None) => Some("pod".to_owned()),
        (false, containers) => containers,
    }
}

/// Looks at a member of the pod's and each container's security context; returns who sets a bad value.
pub(super) fn bad_setters(
    pod: &Pod<'_>,
    path: &[&str],
    mut bad: impl FnMut(&Value) -> bool,
) -> Option<String> {
    let mut full = vec!["securityContext"];
    full.extend(path);
    let by_pod = pod.spec.at(&full).is_some_and(&mut bad);
    let by_containers = pod.containers_where(|container| container.at(&full).is_some_and(&mut bad));
    setters(by_pod, &by_containers)
}

/// Collects what `values` yields for use in a message.
pub(super) fn listed(values: &BTreeSet<String>) -> String {
    join_quoted(values)
}
