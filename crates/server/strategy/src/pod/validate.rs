//! Validation of pods and pod templates.
//!
//! Source: `pkg/apis/core/validation/validation.go`; order and texts are upstream's, quirks of paths included.
//! Not checked: options of Windows containers, in-tree volume kinds that no cluster runs any more beyond their
//! number, pod-level resources against the sum of the containers'.

pub(crate) mod annotations;
mod containers;
mod env;
mod mounts;
mod probes;
mod resources;
mod scheduling;
mod security;
mod spec;
mod status;
mod trust;
mod update;
mod volumes;

use cloudeck_machinery::{Cause, Value};

use crate::check::{At, Faults, list, text};

pub(crate) use probes::port as port_number_or_name;
pub(crate) use resources::quantity;
pub(crate) use scheduling::{EFFECTS, node_selector};
pub(super) use status::status_update;
pub(super) use update::update;
pub(crate) use update::{pretty, unified_diff};
pub(crate) use volumes::{no_backsteps, one_source as volume_source};

/// What the parts of a pod specification must know of the whole.
pub(super) struct Context<'a> {
    /// The volumes that are sound, by name.
    volumes: Vec<(&'a str, &'a Value)>,
    /// Names in `resourceClaims`.
    claims: Vec<&'a str>,
    grace: Option<i64>,
    restart_policy: &'a str,
    host_users: bool,
    /// A pod rather than a template.
    is_pod: bool,
}

const SPEC: At<'static> = At::root("spec");
const ANNOTATIONS: At<'static> = METADATA.field("annotations");
const METADATA: At<'static> = At::root("metadata");

/// Errors of a new pod.
pub(super) fn create(pod: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    whole(pod, &mut faults);
    let Some(spec) = pod.get("spec") else {
        return faults.into_causes();
    };
    if !list(spec, "ephemeralContainers").is_empty() {
        faults.forbidden(&SPEC.field("ephemeralContainers"), "cannot be set on create");
    }
    if !text(spec, "nodeName").is_empty() && !list(spec, "schedulingGates").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        faults.forbidden(&SPEC.field("nodeName"), why);
    }
    faults.into_causes()
}

/// What holds for new and changed pods alike.
fn whole(pod: &Value, faults: &mut Faults) {
    let Some(own) = pod.get("spec") else {
        faults.required(&SPEC, "");
        return;
    };
    annotations::check(pod, own, &ANNOTATIONS, faults);
    let name = pod.str_at(&["metadata", "name"]);
    spec::spec(own, &SPEC, Some(name.unwrap_or_default()), faults);
    only_pods(own, faults);
}

/// Rules that templates are not held to, for old times' sake.
fn only_pods(spec: &Value, faults: &mut Faults) {
    if text(spec, "serviceAccountName").is_empty() {
        for (i, volume) in list(spec, "volumes").iter().enumerate() {
            for (j, source) in volume.items_at(&["projected", "sources"]).iter().enumerate() {
                if source.get("serviceAccountToken").is_some() {
                    let (volumes, why) = (
                        SPEC.field("volumes"),
                        "must not be specified when serviceAccountName is not set",
                    );
                    let projected = volumes.index(i);
                    let sources = projected.field("projected");
                    let sources = sources.field("sources");
                    faults.forbidden(&sources.index(j).field("serviceAccountToken"), why);
                }
            }
        }
    }
    if let Some(grace) = spec.int_at(&["terminationGracePeriodSeconds"]) {
        faults.not_negative(&SPEC.field("terminationGracePeriodSeconds"), grace);
    }
    for key in ["containers", "initContainers"] {
        for (i, container) in list(spec, key).iter().enumerate() {
            containers::only_pods(container, &SPEC.field(key).index(i), faults);
        }
    }
}

/// Errors of a pod template, whose path is `at`.
pub(crate) fn template(template: &Value, at: &At<'_>, faults: &mut Faults) {
    let none = Value::Null;
    let metadata = template.get("metadata").unwrap_or(&none);
    // Upstream leaves `metadata` out of these paths.
    faults.labels(&at.field("labels"), metadata.get("labels"));
    annotations::keys(metadata, &at.field("annotations"), faults);
    let own = template.get("spec").unwrap_or(&none);
    annotations::check(template, own, &at.field("annotations"), faults);
    spec::spec(own, &at.field("spec"), None, faults);
    if !list(own, "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        faults.forbidden(&at.field("spec").field("ephemeralContainers"), why);
    }
}

#[cfg(test)]
mod tests;
