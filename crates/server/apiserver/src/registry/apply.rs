//! Server-side apply.

use cloudeck_client::Response;
use cloudeck_machinery::{GroupVersionKind, Status, Value};
use cloudeck_patch::apply::{ApplyInput, apply_patch, keep_times_of_no_change};

use super::decode::{self, Expected};
use super::update::{self, Change};
use super::{Call, meta, ownership};

pub(crate) async fn apply(call: &mut Call<'_>) -> Result<Response, Status> {
    let view = call.view;
    let expected = Expected {
        api_version: &view.api_version,
        kind: view.kind_name(),
        ty: view.ty,
    };
    let mut duplicates = Vec::new();
    let tree = decode::parse(&call.request.body, expected, &mut duplicates)
        .map_err(|status| Status::bad_request(format!("error decoding YAML: {}", status.message)))?;
    let kind = GroupVersionKind::new(view.group(), view.info.version, view.kind_name());
    let unknown = decode::complaints(&tree, expected, &duplicates);
    decode::report(call, expected, unknown)?;
    update::run(call, &Apply { tree, kind }).await
}

struct Apply {
    tree: Value,
    kind: GroupVersionKind,
}

impl Apply {
    fn merged(&self, call: &mut Call<'_>, live: Option<&Value>) -> Result<Value, Status> {
        let view = std::sync::Arc::clone(call.view);
        let mut patch = self.tree.clone();
        meta::match_namespace(call, &mut patch)?;
        update::match_name(call, &mut patch)?;
        let now = call.core.clock.timestamp();
        let mut merged = apply_patch(ApplyInput {
            live,
            patch: &patch,
            kind: &self.kind,
            ty: Some(view.ty),
            manager: &call.request.params.field_manager,
            force: call.request.params.force.unwrap_or(false),
            subresource: &call.request.subresource,
            reset_fields: ownership::reset_fields(&view.kind, &call.request.subresource),
            now: &now,
        })?;
        let expected = Expected {
            api_version: &view.api_version,
            kind: view.kind_name(),
            ty: view.ty,
        };
        decode::normalise(&mut merged, expected)?;
        if let Some(live) = live {
            keep_times_of_no_change(live, &mut merged);
        }
        Ok(merged)
    }
}

impl Change for Apply {
    fn apply(&self, call: &mut Call<'_>, current: &Value) -> Result<Value, Status> {
        self.merged(call, Some(current))
    }

    fn create(&self, call: &mut Call<'_>) -> Result<Value, Status> {
        if !call.request.subresource.is_empty() {
            return Err(call.not_found());
        }
        if self
            .tree
            .str_at(&["metadata", "uid"])
            .is_some_and(|uid| !uid.is_empty())
        {
            let why = "uid mismatch: the provided object specified uid, and no existing object was found";
            return Err(Status::conflict(
                call.view.group(),
                call.view.plural(),
                &call.request.name,
                why,
            ));
        }
        self.merged(call, None)
    }

    fn is_apply(&self) -> bool {
        true
    }
}
