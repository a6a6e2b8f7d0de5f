//! Answers in the form that the client wishes.

use bytes::Bytes;
use cloudeck_client::{ListMeta, Response as Reply};
use cloudeck_machinery::{Status, Value, json};
use http::{HeaderValue, Response, header};

use super::body::{EdgeBody, ListBody};
use super::connection::Edge;
use super::exchange::code;
use super::negotiate::{Form, Shape};
use super::path::ResourceTarget;
use super::{partial, table};
use crate::kinds::View;
use crate::server::Answer;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");

/// A refusal.
pub(crate) fn status(status: &Status) -> Response<EdgeBody> {
    let mut response = whole(status.code, status_json(status), false);
    let wait = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    if wait > 0 {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    response
}

/// A `Status` in Go's field order.
pub(crate) fn status_json(status: &Status) -> Bytes {
    let mut out = Vec::with_capacity(256);
    let ty = cloudeck_schema::type_of_kind("", "v1", "Status");
    cloudeck_schema::write_json(ty, &status.to_value(), &mut out);
    out.into()
}

/// A body in one piece.
pub(crate) fn whole(status: u16, bytes: Bytes, yaml: bool) -> Response<EdgeBody> {
    let (bytes, content_type) = if yaml {
        (to_yaml(&bytes), YAML)
    } else {
        (bytes, JSON)
    };
    of_type(status, EdgeBody::Full(bytes), content_type)
}

/// The answer with its JSON in lines. Streams and what is no JSON stay as they are.
pub(crate) fn indented(response: Response<EdgeBody>) -> Response<EdgeBody> {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_json = content_type.is_some_and(|value| value.as_bytes().starts_with(JSON.as_bytes()));
    if !is_json {
        return response;
    }
    response.map(|body| match body {
        EdgeBody::Full(bytes) => EdgeBody::Full(json::indent(&bytes).into()),
        EdgeBody::List(list) => EdgeBody::Full(json::indent(&list.into_bytes()).into()),
        stream @ EdgeBody::Stream(_) => stream,
    })
}

/// Plain text.
pub(crate) fn text(bytes: impl Into<Bytes>) -> Response<EdgeBody> {
    of_type(
        200,
        EdgeBody::Full(bytes.into()),
        HeaderValue::from_static("text/plain; charset=utf-8"),
    )
}

pub(crate) fn of_type(status: u16, body: EdgeBody, content_type: HeaderValue) -> Response<EdgeBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code(status);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

pub(crate) fn respond(
    edge: &Edge,
    view: Option<&View>,
    answer: Answer,
    form: Form,
    target: &ResourceTarget,
) -> Result<Response<EdgeBody>, Status> {
    let view = || view.ok_or_else(crate::server::no_such_resource);
    let mut response = match answer.response {
        Reply::Object { object, created } => {
            let status = if created { 201 } else { 200 };
            match form.shape {
                Shape::Object => whole(status, object.json.clone(), form.yaml),
                Shape::Partial(version) => whole(status, partial::object(&object.json, version), form.yaml),
                Shape::Table(version) => {
                    let render = table::Render::new(edge, view()?, target, version)?;
                    let meta = ListMeta {
                        revision: object.revision,
                        ..ListMeta::default()
                    };
                    whole(
                        status,
                        render.table(std::slice::from_ref(&object), &meta),
                        form.yaml,
                    )
                }
            }
        }
        Reply::List(list) => match form.shape {
            Shape::Object => {
                let body = ListBody::new(opening(view()?, &list.meta), list.items, skipped(view()?));
                if form.yaml {
                    whole(200, body.into_bytes(), true)
                } else {
                    of_type(200, EdgeBody::List(body), JSON)
                }
            }
            Shape::Partial(version) => whole(200, partial::list(&list.items, &list.meta, version), form.yaml),
            Shape::Table(version) => {
                let render = table::Render::new(edge, view()?, target, version)?;
                whole(200, render.table(&list.items, &list.meta), form.yaml)
            }
        },
        Reply::Json { bytes, code } => whole(code, bytes, form.yaml),
    };
    for warning in &answer.warnings {
        let text: String = warning.chars().filter(|c| !c.is_control()).collect();
        let quoted = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_bytes(quoted.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}

/// `{"kind":"PodList","apiVersion":"v1","metadata":{…},"items":[`.
fn opening(view: &View, meta: &ListMeta) -> Bytes {
    let mut out = Vec::with_capacity(192);
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(view.kind_name().as_bytes());
    out.extend_from_slice(b"List\",\"apiVersion\":\"");
    out.extend_from_slice(view.api_version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    out.extend_from_slice(&list_metadata(meta));
    out.extend_from_slice(b",\"items\":[");
    out.into()
}

/// The metadata of a list in Go's order.
pub(crate) fn list_metadata(meta: &ListMeta) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut text = format!("{{\"resourceVersion\":\"{}\"", meta.revision);
    if !meta.continue_token.is_empty() {
        let _ = write!(text, ",\"continue\":\"{}\"", meta.continue_token);
    }
    if let Some(count) = meta.remaining_item_count {
        let _ = write!(text, ",\"remainingItemCount\":{count}");
    }
    text.push('}');
    text.into_bytes()
}

/// How many bytes `{"kind":"Pod","apiVersion":"v1",` takes.
fn skipped(view: &View) -> usize {
    "{\"kind\":\"\",\"apiVersion\":\"\",".len() + view.kind_name().len() + view.api_version.len()
}

fn to_yaml(bytes: &[u8]) -> Bytes {
    let tree = json::parse(bytes).unwrap_or(Value::Null);
    cloudeck_machinery::yaml::write(&tree).into()
}
