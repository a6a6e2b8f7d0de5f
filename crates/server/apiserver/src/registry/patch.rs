//! PATCH: JSON patch, merge patch, strategic merge patch, apply.

use cloudeck_client::{Body, ContentType, Response};
use cloudeck_machinery::{Reason, Status, Value};
use cloudeck_patch::{json_patch, merge_patch};

use super::decode::{self, Expected};
use super::update::{self, Change};
use super::{Call, meta};

pub(crate) async fn patch(call: &mut Call<'_>) -> Result<Response, Status> {
    let body = call.request.body.clone();
    if body.content_type == ContentType::ApplyPatch {
        return super::apply::apply(call).await;
    }
    let patch = Patch::read(&body)?;
    update::run(call, &patch).await
}

/// A parsed patch, applied anew on every attempt.
pub(crate) struct Patch {
    content_type: ContentType,
    tree: Value,
    duplicates: Vec<String>,
}

impl Patch {
    pub(crate) fn read(body: &Body) -> Result<Self, Status> {
        if !matches!(
            body.content_type,
            ContentType::JsonPatch | ContentType::MergePatch | ContentType::StrategicMergePatch
        ) {
            return Err(unsupported(body.content_type));
        }
        let mut duplicates = Vec::new();
        let tree = decode::parse_json(&body.bytes, &mut duplicates)
            .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
        Ok(Self {
            content_type: body.content_type,
            tree,
            duplicates,
        })
    }

    /// The patched tree, of any type.
    pub(crate) fn apply_to(&self, ty: cloudeck_schema::TypeRef, current: &Value) -> Result<Value, Status> {
        let mut new = current.clone();
        match self.content_type {
            ContentType::JsonPatch => json_patch::apply(&mut new, &self.tree)?,
            ContentType::MergePatch => merge_patch::apply(&mut new, self.tree.clone())
                .map_err(|error| Status::bad_request(error.to_string()))?,
            _ => cloudeck_patch::strategic::apply(ty, &mut new, self.tree.clone())?,
        }
        Ok(new)
    }
}

fn unsupported(sent: ContentType) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml; it was {}",
        sent.as_str()
    );
    Status::new(Reason::UnsupportedMediaType, message)
}

impl Change for Patch {
    fn apply(&self, call: &mut Call<'_>, current: &Value) -> Result<Value, Status> {
        let view = std::sync::Arc::clone(call.view);
        let mut new = self.apply_to(view.ty, current)?;
        let expected = Expected {
            api_version: &view.api_version,
            kind: view.kind_name(),
            ty: view.ty,
        };
        decode::check_type(&mut new, expected)?;
        decode::refine(call, &mut new, expected, self.duplicates.clone())?;
        update::match_name(call, &mut new)?;
        meta::match_namespace(call, &mut new)?;
        Ok(new)
    }
}
