//! What `events.k8s.io/v1` demands of an event beyond core/v1. Events are judged in their stored form.
//!
//! Source: `pkg/apis/core/validation/events.go`.

use cloudeck_machinery::{Cause, Value};

use crate::check::{At, Faults, number, present, text};

/// Errors of an event that is created through `events.k8s.io`.
pub fn create(event: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    series(event, &mut faults);
    if present(event, "eventTime").is_none() {
        faults.required(&At::root("eventTime"), "");
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        faults.invalid(&At::root("type"), "", &format!("has invalid value: {kind}"));
    }
    let source = event.get("source").unwrap_or(&Value::Null);
    let old = [
        ("firstTimestamp", present(event, "firstTimestamp").is_some()),
        ("lastTimestamp", present(event, "lastTimestamp").is_some()),
        ("count", number(event, "count") != 0),
        (
            "source",
            !text(source, "component").is_empty() || !text(source, "host").is_empty(),
        ),
    ];
    for (field, _) in old.into_iter().filter(|(_, set)| *set) {
        faults.invalid(&At::root(field), "", "needs to be unset");
    }
    faults.into_causes()
}

/// Errors of an update through `events.k8s.io`: only the series goes on.
pub fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    if new.get("series") != old.get("series") {
        series(new, &mut faults);
    }
    for (field, shown) in [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        faults.immutable(&At::root(shown), new.get(field), old.get(field));
    }
    faults.into_causes()
}

fn series(event: &Value, faults: &mut Faults) {
    let Some(series) = present(event, "series") else {
        return;
    };
    if number(series, "count") < 2 {
        faults.invalid(&At::root("series.count"), "", "should be at least 2");
    }
    if present(series, "lastObservedTime").is_none() {
        faults.required(&At::root("series.lastObservedTime"), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::{lines, tree};

    #[test]
    fn an_event_of_the_new_group_has_no_old_fields() {
        let good = r#"{"eventTime":"2026-01-01T00:00:00.000000Z","type":"Normal","source":{},"firstTimestamp":null}"#;
        assert_eq!(create(&tree(good)), []);
        let bad = r#"{"count":1,"source":{"component":"c"},"series":{"count":1}}"#;
        assert_eq!(
            lines(&create(&tree(bad))),
            [
                "series.count: Invalid value: \"\": should be at least 2",
                "series.lastObservedTime: Required value",
                "eventTime: Required value",
                "type: Invalid value: \"\": has invalid value: ",
                "count: Invalid value: \"\": needs to be unset",
                "source: Invalid value: \"\": needs to be unset",
            ]
        );
    }

    #[test]
    fn only_the_series_of_an_event_goes_on() {
        let old =
            tree(r#"{"reason":"a","series":{"count":2,"lastObservedTime":"2026-01-01T00:00:00.000000Z"}}"#);
        let new =
            tree(r#"{"reason":"b","series":{"count":3,"lastObservedTime":"2026-01-01T00:00:01.000000Z"}}"#);
        assert_eq!(
            lines(&update(&new, &old)),
            ["reason: Invalid value: \"b\": field is immutable"]
        );
    }
}
