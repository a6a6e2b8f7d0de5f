//! The row of an event.

use cloudeck_machinery::Value;

use crate::table::{self, Column, TableRow, text, wide};

pub(super) const COLUMNS: &[Column] = &[
    text("Last Seen", "When it last happened."),
    text("Type", "Normal or Warning."),
    text("Reason", "The cause in one word."),
    text("Object", "What it happened to."),
    wide("Subobject", "Which part of the object it happened to."),
    wide("Source", "Who reported it."),
    text("Message", "What happened."),
    wide("First Seen", "When it first happened."),
    wide("Count", "How often it happened."),
    wide("Name", "The event's own name."),
];

pub(super) fn cells(event: &Value, row: TableRow<'_>) -> Vec<Value> {
    let time = |path: &[&str]| event.str_at(path).filter(|time| table::seconds(time).is_some());
    let first = time(&["firstTimestamp"]).or_else(|| time(&["eventTime"]));
    let mut last = time(&["lastTimestamp"]).or(first);
    let mut count = event.int_at(&["count"]).filter(|count| *count != 0).unwrap_or(1);
    if let Some(series) = event.get("series").filter(|series| !series.is_null()) {
        last = time(&["series", "lastObservedTime"]);
        count = series.int_at(&["count"]).unwrap_or(0);
    }
    vec![
        Value::from(table::since(last, row.now)),
        table::string(event, &["type"]),
        table::string(event, &["reason"]),
        Value::from(target(event)),
        table::string(event, &["involvedObject", "fieldPath"]),
        Value::from(source(event)),
        Value::from(event.str_at(&["message"]).unwrap_or_default().trim()),
        Value::from(table::since(first, row.now)),
        Value::from(count),
        table::name(event),
    ]
}

fn target(event: &Value) -> String {
    let about = |key| event.str_at(&["involvedObject", key]).unwrap_or_default();
    let kind = about("kind").to_lowercase();
    match about("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let first = |old: &[&str], new: &str| {
        let old = event.str_at(old).filter(|text| !text.is_empty());
        old.or_else(|| event.str_at(&[new])).unwrap_or_default()
    };
    let component = first(&["source", "component"], "reportingComponent");
    match first(&["source", "host"], "reportingInstance") {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}
