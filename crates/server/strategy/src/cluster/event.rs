//! Events, of core and of events.k8s.io: stored in the form of core/v1.

use cloudeck_machinery::Value;
use compact_str::CompactString;

use super::{event_row, validate};
use crate::Strategy;

pub(crate) const EVENT: Strategy = Strategy {
    field_names: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    fields,
    validate_create: validate::event,
    validate_update: |new, _| validate::event(new),
    columns: event_row::COLUMNS,
    row: event_row::cells,
    ..Strategy::GENERIC
};

fn fields(event: &Value) -> Box<[(&'static str, CompactString)]> {
    let about = |key| CompactString::from(event.str_at(&["involvedObject", key]).unwrap_or_default());
    let text = |key| event.str_at(&[key]).unwrap_or_default();
    let source = event
        .str_at(&["source", "component"])
        .filter(|component| !component.is_empty())
        .unwrap_or(text("reportingComponent"));
    Box::new([
        ("involvedObject.kind", about("kind")),
        ("involvedObject.namespace", about("namespace")),
        ("involvedObject.name", about("name")),
        ("involvedObject.uid", about("uid")),
        ("involvedObject.apiVersion", about("apiVersion")),
        ("involvedObject.resourceVersion", about("resourceVersion")),
        ("involvedObject.fieldPath", about("fieldPath")),
        ("reason", text("reason").into()),
        ("reportingComponent", text("reportingComponent").into()),
        ("source", source.into()),
        ("type", text("type").into()),
    ])
}
