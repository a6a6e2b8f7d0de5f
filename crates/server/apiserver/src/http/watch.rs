//! Watches as streams of JSON lines; the lines of plain objects are shared by all watchers.

use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cloudeck_machinery::Object;
use futures_util::stream;
use http::{HeaderValue, Response};

use super::answer;
use super::body::EdgeBody;
use super::connection::Edge;
use super::negotiate::{Form, Shape};
use super::path::ResourceTarget;
use super::{partial, table};
use crate::cache::event::{EventType, frame};
use crate::cache::watcher::{Delivery, Watcher};
use crate::conversion::Conversion;
use crate::kinds::View;

/// Lines that are ready together travel together, up to this size.
const COALESCE: usize = 64 << 10;

const TYPE: HeaderValue = HeaderValue::from_static("application/json");

impl Drop for Lines {
    fn drop(&mut self) {
        self.edge.metrics.watches.add(-1);
    }
}

struct Lines {
    edge: Arc<Edge>,
    view: Arc<View>,
    watcher: Watcher,
    form: Form,
    target: ResourceTarget,
    sent: bool,
    /// Resolves when the edge stops; made once, polled only while there is nothing to send.
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
}

pub(crate) fn respond(
    edge: &Arc<Edge>,
    view: Arc<View>,
    watcher: Watcher,
    form: Form,
    target: ResourceTarget,
) -> Response<EdgeBody> {
    edge.metrics.watches.add(1);
    let lines = Lines {
        edge: Arc::clone(edge),
        view,
        watcher,
        form,
        target,
        sent: false,
        stop: Box::pin(edge.scope().shutdown_requested()),
    };
    let stream = stream::unfold(lines, |mut lines| async move {
        let chunk = lines.next_chunk().await?;
        Some((chunk, lines))
    });
    answer::of_type(200, EdgeBody::Stream(Box::pin(stream)), TYPE)
}

impl Lines {
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let delivery = tokio::select! {
            biased;
            delivery = self.watcher.next() => delivery?,
            () = &mut self.stop => return None,
        };
        let first = self.line(delivery);
        let Some(second) = self.watcher.next_ready() else {
            return Some(first);
        };
        let mut chunk = BytesMut::from(&first[..]);
        let mut more = Some(second);
        while let Some(delivery) = more {
            chunk.extend_from_slice(&self.line(delivery));
            more = if chunk.len() < COALESCE {
                self.watcher.next_ready()
            } else {
                None
            };
        }
        Some(chunk.freeze())
    }

    fn line(&mut self, delivery: Delivery) -> Bytes {
        match delivery {
            Delivery::Object { kind, object, event } => match event {
                Some(event) if self.is_plain() => event.frame(kind, &object),
                _ => self.object_line(kind, &object),
            },
            Delivery::Bookmark {
                revision,
                initial_events_end,
            } => self.bookmark(revision, initial_events_end),
            Delivery::Error(status) => frame("ERROR", &answer::status_json(&status)),
        }
    }

    fn is_plain(&self) -> bool {
        self.form.shape == Shape::Object && self.view.conversion == Conversion::Identity
    }

    fn object_line(&mut self, kind: EventType, object: &Arc<Object>) -> Bytes {
        let object = self.view.present(object);
        let name = kind.as_str();
        match self.form.shape {
            Shape::Object => frame(name, &object.json),
            Shape::Partial(version) => frame(name, &partial::object(&object.json, version)),
            Shape::Table(version) => {
                let first = !std::mem::replace(&mut self.sent, true);
                let table = table::Render::new(&self.edge, &self.view, &self.target, version)
                    .map(|render| render.event(&object, first));
                match table {
                    Ok(table) => frame(name, &table),
                    Err(status) => frame("ERROR", &answer::status_json(&status)),
                }
            }
        }
    }

    fn bookmark(&self, revision: u64, initial_events_end: bool) -> Bytes {
        let annotations = if initial_events_end {
            ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}"
        } else {
            ""
        };
        let metadata = format!("{{\"resourceVersion\":\"{revision}\"{annotations}}}");
        let text = match self.form.shape {
            Shape::Object => format!(
                "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata}}}",
                self.view.kind_name(),
                self.view.api_version
            ),
            Shape::Partial(version) => format!(
                "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{metadata}}}"
            ),
            Shape::Table(version) => format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{metadata},\"columnDefinitions\":null,\"rows\":[{{\"cells\":[],\"object\":{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{metadata}}}}}]}}"
            ),
        };
        frame("BOOKMARK", text.as_bytes())
    }
}
