//! Tables: what `kubectl get` shows.

use std::sync::Arc;

use bytes::Bytes;
use cloudeck_client::ListMeta;
use cloudeck_machinery::{Object, Status, json};
use cloudeck_strategy::{Column, TableRow};

use super::answer::list_metadata;
use super::connection::Edge;
use super::partial;
use super::path::ResourceTarget;
use crate::kinds::View;

/// What stands beside a row's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    None,
    Metadata,
    Object,
}

/// Renders objects of one view.
pub(crate) struct Render<'a> {
    view: &'a View,
    version: &'static str,
    include: Include,
    now: i64,
    namespace: &'a str,
}

/// The columns of kinds that name none.
const DEFAULT: [Column; 2] = [
    Column {
        name: "Name",
        column_type: "string",
        format: "name",
        description: "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names",
        priority: 0,
    },
    Column {
        name: "Created At",
        column_type: "date",
        format: "",
        description: "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
        priority: 0,
    },
];

impl<'a> Render<'a> {
    pub(crate) fn new(
        edge: &Edge,
        view: &'a View,
        target: &'a ResourceTarget,
        version: &'static str,
    ) -> Result<Self, Status> {
        let include = match target.query.get("includeObject") {
            None | Some("" | "Metadata") => Include::Metadata,
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "unrecognized includeObject value: {other:?}"
                )));
            }
        };
        let namespace = &target.request.namespace;
        Ok(Self {
            view,
            version,
            include,
            now: edge.server.core.clock.seconds(),
            namespace,
        })
    }

    fn columns(&self) -> &'a [Column] {
        match self.view.kind.strategy.columns {
            [] => &DEFAULT,
            columns => columns,
        }
    }

    pub(crate) fn table(&self, items: &[Arc<Object>], meta: &ListMeta) -> Bytes {
        let mut out = Vec::with_capacity(2048 + items.len() * 1024);
        self.open(&list_metadata(meta), true, &mut out);
        for (at, object) in items.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.row(object, &mut out);
        }
        out.extend_from_slice(b"]}");
        out.into()
    }

    /// The table of one object in a watch; only the first carries the columns.
    pub(crate) fn event(&self, object: &Object, with_columns: bool) -> Bytes {
        let mut out = Vec::with_capacity(2048);
        let metadata = format!("{{\"resourceVersion\":\"{}\"}}", object.revision);
        self.open(metadata.as_bytes(), with_columns, &mut out);
        self.row(object, &mut out);
        out.extend_from_slice(b"]}");
        out.into()
    }

    fn open(&self, metadata: &[u8], with_columns: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/");
        out.extend_from_slice(self.version.as_bytes());
        out.extend_from_slice(b"\",\"metadata\":");
        out.extend_from_slice(metadata);
        out.extend_from_slice(b",\"columnDefinitions\":");
        if with_columns {
            self.write_columns(out);
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"rows\":[");
    }

    fn write_columns(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, column) in self.columns().iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            for (opening, text) in [
                (&b"{\"name\":"[..], column.name),
                (b",\"type\":", column.column_type),
                (b",\"format\":", column.format),
                (b",\"description\":", column.description),
            ] {
                out.extend_from_slice(opening);
                json::write_string(text, out);
            }
            out.extend_from_slice(format!(",\"priority\":{}}}", column.priority).as_bytes());
        }
        out.push(b']');
    }

    fn row(&self, object: &Object, out: &mut Vec<u8>) {
        let tree = object.tree();
        let cells = (self.view.kind.strategy.row)(
            &tree,
            TableRow {
                now: self.now,
                namespace: self.namespace,
            },
        );
        out.extend_from_slice(b"{\"cells\":[");
        for (at, cell) in cells.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            json::write(cell, out);
        }
        out.push(b']');
        match self.include {
            Include::None => {}
            Include::Metadata => {
                out.extend_from_slice(b",\"object\":");
                partial::write(&object.json, self.version, out);
            }
            Include::Object => {
                out.extend_from_slice(b",\"object\":");
                out.extend_from_slice(&object.json);
            }
        }
        out.push(b'}');
    }
}
