//! Media types: what the client wants to read, and what it has written.

use cloudeck_client::ContentType;
use cloudeck_machinery::{Reason, Status};
use http::{HeaderMap, header};

use super::path::Query;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) yaml: bool,
}

/// What an object is turned into for its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    /// `meta.k8s.io` Table of this version.
    Table(&'static str),
    /// `PartialObjectMetadata` or its list, of this version.
    Partial(&'static str),
}

/// One entry of an Accept header.
struct Range<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|part| part.split_once('=')).collect();
        Self {
            media_type,
            parameters,
        }
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| *value)
    }
}

fn ranges(headers: &HeaderMap) -> impl Iterator<Item = Range<'_>> {
    let texts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .filter(|text| !text.trim().is_empty())
        .map(Range::read)
}

/// The first of the client's wishes that can be fulfilled. `tables`: whether what is asked for has columns.
///
/// # Errors
/// 406 if none can.
pub(crate) fn form(headers: &HeaderMap, tables: bool) -> Result<Form, Status> {
    let mut any = false;
    for range in ranges(headers) {
        any = true;
        let yaml = match range.media_type {
            "application/json" | "*/*" | "application/*" => false,
            "application/yaml" => true,
            _ => continue,
        };
        if let Some(shape) = shape(&range).filter(|shape| tables || !matches!(shape, Shape::Table(_))) {
            return Ok(Form { shape, yaml });
        }
    }
    if any {
        Err(not_acceptable())
    } else {
        Ok(Form {
            shape: Shape::Object,
            yaml: false,
        })
    }
}

fn shape(range: &Range<'_>) -> Option<Shape> {
    let version = || match range.parameter("v")? {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    };
    match (range.parameter("as"), range.parameter("g")) {
        (None, _) => Some(Shape::Object),
        (Some("Table"), Some("meta.k8s.io")) => version().map(Shape::Table),
        (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io")) => {
            version().map(Shape::Partial)
        }
        _ => None,
    }
}

/// Whether somebody is to read the answer with their eyes: they say so, or their program is one that people use by hand.
///
/// Source: `isPrettyPrint` in `apiserver/pkg/endpoints/handlers/negotiation`.
pub(crate) fn wants_indentation(query: &str, headers: &HeaderMap) -> bool {
    const BY_HAND: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];
    let asked = Some(query)
        .filter(|query| query.contains("pretty"))
        .and_then(|query| {
            let value = Query::parse(query).get("pretty")?.to_owned();
            Some(value).filter(|value| !value.is_empty())
        });
    if let Some(value) = asked {
        return matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    BY_HAND.iter().any(|program| agent.starts_with(program))
}

/// Whether aggregated discovery of v2 is the first wish that can be fulfilled.
pub(crate) fn wants_aggregated_discovery(headers: &HeaderMap) -> bool {
    for range in ranges(headers) {
        if range.media_type != "application/json" {
            continue;
        }
        match (range.parameter("as"), range.parameter("v")) {
            (Some("APIGroupDiscoveryList"), Some("v2")) => return true,
            (None, _) => return false,
            _ => {}
        }
    }
    false
}

fn not_acceptable() -> Status {
    Status::new(
        Reason::NotAcceptable,
        "only the following media types are accepted: application/json, application/yaml",
    )
}

/// The type of a request's body; JSON when it is not said.
pub(crate) fn content_type(headers: &HeaderMap, patch: bool) -> Result<ContentType, Status> {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    let found = match media_type {
        "application/json-patch+json" => Some(ContentType::JsonPatch),
        "application/merge-patch+json" => Some(ContentType::MergePatch),
        "application/strategic-merge-patch+json" => Some(ContentType::StrategicMergePatch),
        "application/apply-patch+yaml" | "application/apply-patch+json" => Some(ContentType::ApplyPatch),
        _ if patch => None,
        "" | "application/json" | "text/json" | "*/*" => Some(ContentType::Json),
        "application/yaml" | "text/yaml" | "application/x-yaml" => Some(ContentType::Yaml),
        "application/vnd.kubernetes.protobuf" => Some(ContentType::Protobuf),
        _ => None,
    };
    found.ok_or_else(|| {
        let accepted = if patch {
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml"
        } else {
            "application/json, application/yaml, application/vnd.kubernetes.protobuf"
        };
        Status::new(
            Reason::UnsupportedMediaType,
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<Form>) {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        assert_eq!(form(&headers, true).ok(), expected, "{accept}");
    }

    #[test]
    fn what_has_no_columns_is_no_table() {
        let mut headers = HeaderMap::new();
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        headers.insert(header::ACCEPT, table.parse().unwrap());
        assert_eq!(form(&headers, false).unwrap_err().code, 406);
        headers.append(header::ACCEPT, "application/json".parse().unwrap());
        assert_eq!(form(&headers, false).unwrap().shape, Shape::Object);
    }

    #[test]
    fn people_are_given_lines() {
        let wants = |query: &str, agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, agent.parse().unwrap());
            wants_indentation(query, &headers)
        };
        assert!(
            wants("", "curl/8.5.0") && wants("pretty=", "curl/8.5.0") && wants("a=b&pretty=true", "kubectl")
        );
        assert!(
            !wants("", "kubectl/v1.37.2")
                && !wants("pretty=false", "curl/8.5.0")
                && !wants("pretty=yes", "curl/8")
        );
    }

    #[test]
    fn the_first_servable_wish_is_served() {
        let form = |shape, yaml| Some(Form { shape, yaml });
        check("", form(Shape::Object, false));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            form(Shape::Table("v1"), false),
        );
        check(
            "application/json;as=Table;v=v9;g=meta.k8s.io,application/json",
            form(Shape::Object, false),
        );
        check(
            "application/vnd.kubernetes.protobuf, application/json",
            form(Shape::Object, false),
        );
        check("application/yaml", form(Shape::Object, true));
        check("application/vnd.kubernetes.protobuf", None);
        check("text/html, */*", form(Shape::Object, false));
    }
}
