//! What a list or watch selects: namespace, name, labels and fields.

use cloudeck_machinery::selector::{FieldSelector, LabelSelector};
use cloudeck_machinery::{Object, Status};

use crate::conversion::Conversion;
use crate::kinds::View;

/// Parsed once per request, matched against every object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    pub(crate) namespace: String,
    /// The one name that can match, from the path or from the field selector.
    pub(crate) name: Option<String>,
    labels: Option<LabelSelector>,
    fields: Option<FieldSelector>,
}

impl Selection {
    /// Reads the selectors of a request on `view`.
    pub(crate) fn parse(
        view: &View,
        namespace: &str,
        name: &str,
        labels: &str,
        fields: &str,
    ) -> Result<Self, Status> {
        let mut selection = Self {
            namespace: namespace.to_owned(),
            ..Self::default()
        };
        if !name.is_empty() {
            selection.name = Some(name.to_owned());
        }
        if !labels.is_empty() {
            let parsed =
                LabelSelector::parse(labels).map_err(|error| Status::bad_request(error.to_string()))?;
            selection.labels = (!parsed.is_everything()).then_some(parsed);
        }
        if !fields.is_empty() {
            selection.add_fields(view, fields)?;
        }
        Ok(selection)
    }

    fn add_fields(&mut self, view: &View, text: &str) -> Result<(), Status> {
        let parsed = FieldSelector::parse(text).map_err(|error| Status::bad_request(error.to_string()))?;
        let names = view.kind.strategy.field_names;
        let parsed = if view.conversion == Conversion::Event {
            event_fields(parsed)?
        } else {
            parsed
        };
        for requirement in parsed.requirements() {
            let field = requirement.field.as_str();
            let known = matches!(field, "metadata.name" | "metadata.namespace") || names.contains(&field);
            if !known {
                return Err(Status::bad_request(unsupported(field, names)));
            }
        }
        if let Some(name) = parsed.required_value("metadata.name") {
            self.name.get_or_insert_with(|| name.to_owned());
        }
        self.fields = (!parsed.is_everything()).then_some(parsed);
        Ok(())
    }

    /// Whether labels or fields restrict it; then remaining items are not counted.
    pub(crate) fn is_selective(&self) -> bool {
        self.labels.is_some() || self.fields.is_some() || self.name.is_some()
    }

    /// Whether it selects the object.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || self.namespace == object.key.namespace)
            && self.name.as_ref().is_none_or(|name| *name == object.key.name)
            && self.labels.as_ref().is_none_or(|labels| labels.matches(object))
            && self
                .fields
                .as_ref()
                .is_none_or(|fields| fields.matches(|path| Some(object.field(path).unwrap_or_default())))
    }
}

/// The fields of `events.k8s.io` under the names of the stored form; that form's own names are not known there.
fn event_fields(selector: FieldSelector) -> Result<FieldSelector, Status> {
    const RENAMED: [(&str, &str); 8] = [
        ("regarding.kind", "involvedObject.kind"),
        ("regarding.namespace", "involvedObject.namespace"),
        ("regarding.name", "involvedObject.name"),
        ("regarding.uid", "involvedObject.uid"),
        ("regarding.apiVersion", "involvedObject.apiVersion"),
        ("regarding.resourceVersion", "involvedObject.resourceVersion"),
        ("regarding.fieldPath", "involvedObject.fieldPath"),
        ("reportingController", "reportingComponent"),
    ];
    let of_core = |field: &str| field == "source" || RENAMED.iter().any(|(_, core)| *core == field);
    if let Some(foreign) = selector
        .requirements()
        .iter()
        .find(|requirement| of_core(&requirement.field))
    {
        return Err(Status::bad_request(format!(
            "field label not supported: {}",
            foreign.field
        )));
    }
    let stored = |field: &str| {
        let found = RENAMED.iter().find(|(own, _)| *own == field);
        found.map(|(_, core)| *core)
    };
    Ok(selector.renamed(stored))
}

/// Upstream's words: kinds with selectable fields of their own answer tersely, the others list what they know.
fn unsupported(field: &str, names: &[&str]) -> String {
    if names.is_empty() {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {field}")
    }
}
