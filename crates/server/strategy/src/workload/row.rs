//! Rows of the kinds with a pod template.

use cloudeck_machinery::Value;
use cloudeck_machinery::object::split_api_version;
use cloudeck_machinery::time::duration::human;

use crate::table::{self, AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, TableRow, integer, text, typed};

pub(super) const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", "Number of the pod with ready state"),
    text("Up-to-date", "Pods that have the newest template."),
    text("Available", "Pods that have been ready long enough."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const REPLICAS: &[Column] = &[
    NAME,
    typed("Desired", "integer", "Pods that are wanted."),
    typed("Current", "integer", "Pods that there are."),
    typed("Ready", "integer", "Pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const STATEFUL_SET: &[Column] = &[
    NAME,
    text("Ready", "Number of the pod with ready state"),
    AGE,
    CONTAINERS,
    IMAGES,
];

pub(super) const DAEMON_SET: &[Column] = &[
    NAME,
    typed("Desired", "integer", "Nodes that should run the pod."),
    typed("Current", "integer", "Nodes that run the pod and should."),
    typed("Ready", "integer", "Nodes on which the pod is ready."),
    typed(
        "Up-to-date",
        "integer",
        "Nodes on which the pod has the newest template.",
    ),
    typed(
        "Available",
        "integer",
        "Nodes on which the pod has been ready long enough.",
    ),
    text("Node Selector", "Labels of the nodes that run the pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const JOB: &[Column] = &[
    NAME,
    text("Status", "Status of the job."),
    text("Completions", "Pods that succeeded."),
    text("Duration", "Time required to complete the job."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule", "When jobs start, in the format of cron."),
    text("Timezone", "The time zone of the schedule."),
    typed("Suspend", "boolean", "Whether no further jobs start."),
    typed("Active", "integer", "Jobs that run now."),
    text("Last Schedule", "When a job was last started."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) const REVISION: &[Column] = &[
    NAME,
    text("Controller", "Controller of the object"),
    text("Revision", "The number of the revision."),
    AGE,
];

fn template(object: &Value) -> [Value; 2] {
    table::containers(object.at(&["spec", "template", "spec"]))
}

fn own_selector(object: &Value) -> Value {
    table::selector(object.at(&["spec", "selector"]))
}

fn ready_of_desired(object: &Value) -> Value {
    let ready = object.int_at(&["status", "readyReplicas"]).unwrap_or(0);
    let desired = object.int_at(&["spec", "replicas"]).unwrap_or(0);
    Value::from(format!("{ready}/{desired}"))
}

pub(super) fn deployment(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let [names, images] = template(object);
    // Unlike the other kinds, an empty selector prints as nothing.
    let selector = cloudeck_machinery::LabelSelector::from_value(object.at(&["spec", "selector"]));
    let selector = selector.map_or_else(|_| "<invalid>".to_owned(), |selector| selector.to_string());
    vec![
        table::name(object),
        ready_of_desired(object),
        integer(object, &["status", "updatedReplicas"]),
        integer(object, &["status", "availableReplicas"]),
        table::age(object, row),
        names,
        images,
        Value::from(selector),
    ]
}

pub(super) fn replica_set(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let mut cells = replicas(object, row);
    cells.push(own_selector(object));
    cells
}

pub(super) fn replication_controller(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let mut cells = replicas(object, row);
    cells.push(table::labels(object.at(&["spec", "selector"])));
    cells
}

fn replicas(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let [names, images] = template(object);
    vec![
        table::name(object),
        integer(object, &["spec", "replicas"]),
        integer(object, &["status", "replicas"]),
        integer(object, &["status", "readyReplicas"]),
        table::age(object, row),
        names,
        images,
    ]
}

pub(super) fn stateful_set(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let [names, images] = template(object);
    vec![
        table::name(object),
        ready_of_desired(object),
        table::age(object, row),
        names,
        images,
    ]
}

pub(super) fn daemon_set(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let [names, images] = template(object);
    let count = |key| integer(object, &["status", key]);
    vec![
        table::name(object),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        table::labels(object.at(&["spec", "template", "spec", "nodeSelector"])),
        table::age(object, row),
        names,
        images,
        own_selector(object),
    ]
}

pub(super) fn job(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let [names, images] = template(object);
    vec![
        table::name(object),
        Value::from(job_status(object)),
        Value::from(completions(object)),
        Value::from(job_duration(object, row.now)),
        table::age(object, row),
        names,
        images,
        own_selector(object),
    ]
}

fn job_status(object: &Value) -> &'static str {
    let has = |kind| table::has_condition(object, kind, "True");
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if object.at(&["metadata", "deletionTimestamp"]).is_some() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(object: &Value) -> String {
    let done = object.int_at(&["status", "succeeded"]).unwrap_or(0);
    let parallel = object.int_at(&["spec", "parallelism"]).unwrap_or(0);
    match object.int_at(&["spec", "completions"]) {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    }
}

fn job_duration(object: &Value, now: i64) -> String {
    let time = |key| object.str_at(&["status", key]).and_then(table::seconds);
    match (time("startTime"), time("completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => human(end.unwrap_or(now) - start),
    }
}

pub(super) fn cron_job(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let inner = ["spec", "jobTemplate", "spec"];
    let inner = object.at(&inner);
    let [names, images] = table::containers(inner.and_then(|spec| spec.at(&["template", "spec"])));
    let last = object.str_at(&["status", "lastScheduleTime"]);
    let last = last.map_or_else(|| "<none>".to_owned(), |time| table::since(Some(time), row.now));
    let suspend = match object.bool_at(&["spec", "suspend"]) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    vec![
        table::name(object),
        table::string(object, &["spec", "schedule"]),
        table::string_or(object, &["spec", "timeZone"], "<none>"),
        Value::from(suspend),
        Value::from(object.items_at(&["status", "active"]).len() as i64),
        Value::from(last),
        table::age(object, row),
        names,
        images,
        table::selector(inner.and_then(|spec| spec.get("selector"))),
    ]
}

pub(super) fn revision(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let owner = object
        .items_at(&["metadata", "ownerReferences"])
        .iter()
        .find(|owner| owner.bool_at(&["controller"]) == Some(true));
    let controller = owner.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let text = |key| owner.str_at(&[key]).unwrap_or_default();
            let (group, _) = split_api_version(text("apiVersion"));
            let dot = if group.is_empty() { "" } else { "." };
            let kind = text("kind").to_lowercase();
            format!("{kind}{dot}{group}/{}", text("name"))
        },
    );
    vec![
        table::name(object),
        Value::from(controller),
        integer(object, &["revision"]),
        table::age(object, row),
    ]
}
