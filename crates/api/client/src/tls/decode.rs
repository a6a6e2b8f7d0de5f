//! Answers and events from JSON.

use std::sync::Arc;

use bytes::Bytes;
use cloudeck_machinery::{Object, Reason, Status, Value, json};

use crate::transport::{ListMeta, ObjectList, Response, WatchEvent};

/// The annotation on the bookmark that ends a WatchList's initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A refusal: the server's `Status`, or one made from the code.
pub(super) fn failure(code: u16, body: &[u8]) -> Status {
    match json::parse(body) {
        Ok(tree) if tree.str_at(&["kind"]) == Some("Status") => Status::from_value(&tree),
        _ => {
            let text = String::from_utf8_lossy(&body[..body.len().min(512)])
                .trim()
                .to_owned();
            Status::new(Reason::Unknown, format!("the server answered {code}: {text}")).with_code(code)
        }
    }
}

/// A success.
pub(super) fn response(code: u16, body: Bytes) -> Result<Response, Status> {
    let broken = |e| Status::internal(format!("the server's answer is not JSON: {e}"));
    let tree = json::parse(&body).map_err(broken)?;
    let kind = tree.str_at(&["kind"]).unwrap_or_default();
    if kind.ends_with("List") && tree.at(&["items"]).is_some() {
        return Ok(Response::List(list(tree)));
    }
    if tree.at(&["metadata", "resourceVersion"]).is_some() && kind != "Status" {
        let object = Arc::new(Object::from_parts(body, &tree, Box::default()));
        return Ok(Response::Object {
            object,
            created: code == 201,
        });
    }
    Ok(Response::Json { bytes: body, code })
}

fn list(mut tree: Value) -> ObjectList {
    let text = |path: &[&str]| tree.str_at(path).unwrap_or_default().to_owned();
    let meta = ListMeta {
        revision: text(&["metadata", "resourceVersion"]).parse().unwrap_or(0),
        continue_token: text(&["metadata", "continue"]),
        remaining_item_count: tree.int_at(&["metadata", "remainingItemCount"]),
    };
    let api_version = text(&["apiVersion"]);
    let kind = text(&["kind"]);
    let kind = kind.strip_suffix("List").unwrap_or(&kind);
    let items = match tree.remove_at(&["items"]) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let items = items
        .into_iter()
        .map(|item| Arc::new(typed(item, &api_version, kind)))
        .collect();
    ObjectList { items, meta }
}

/// Items of built-in lists come without their kind; objects carry it.
fn typed(mut item: Value, api_version: &str, kind: &str) -> Object {
    if item.get("kind").is_none() {
        item.set_at(&["kind"], kind);
        item.set_at(&["apiVersion"], api_version);
    }
    Object::from_parts(json::to_vec(&item).into(), &item, Box::default())
}

/// One line of a watch.
pub(super) fn event(line: &[u8]) -> WatchEvent {
    let broken = |why: String| WatchEvent::Error(Status::new(Reason::InternalError, why));
    let mut tree = match json::parse(line) {
        Ok(tree) => tree,
        Err(e) => return broken(format!("a watch event is not JSON: {e}")),
    };
    let object = tree.remove_at(&["object"]).unwrap_or_default();
    let shared = |object: Value| {
        Arc::new(Object::from_parts(
            json::to_vec(&object).into(),
            &object,
            Box::default(),
        ))
    };
    match tree.str_at(&["type"]).unwrap_or_default() {
        "ADDED" => WatchEvent::Added(shared(object)),
        "MODIFIED" => WatchEvent::Modified(shared(object)),
        "DELETED" => WatchEvent::Deleted(shared(object)),
        "BOOKMARK" => WatchEvent::Bookmark {
            revision: object
                .str_at(&["metadata", "resourceVersion"])
                .and_then(|r| r.parse().ok())
                .unwrap_or(0),
            initial_events_end: object.str_at(&["metadata", "annotations", INITIAL_EVENTS_END])
                == Some("true"),
        },
        "ERROR" => WatchEvent::Error(Status::from_value(&object)),
        other => broken(format!("unknown watch event type {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_items_get_the_kind_of_their_list() {
        let body = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"p","resourceVersion":"3"}}]}"#;
        let list = response(200, Bytes::from_static(body))
            .unwrap()
            .into_list()
            .unwrap();
        assert_eq!(list.meta.revision, 9);
        assert_eq!(list.items[0].tree().str_at(&["kind"]), Some("Pod"));
    }

    #[test]
    fn a_failure_without_status_keeps_the_code_and_the_text() {
        let status = failure(502, b"bad gateway");
        assert_eq!(
            (status.code, status.message.as_str()),
            (502, "the server answered 502: bad gateway")
        );
    }

    #[test]
    fn events_decode_by_type() {
        let line = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"4","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert!(matches!(
            event(line),
            WatchEvent::Bookmark {
                revision: 4,
                initial_events_end: true
            }
        ));
        assert!(matches!(event(b"{"), WatchEvent::Error(_)));
    }
}
