//! Everything under an object that is not the object: status, scale, binding, eviction, tokens; and the kinds without
//! storage.

mod binding;
mod eviction;
mod reviews;
mod scale;
mod token;

use cloudeck_client::{Response, Verb};
use cloudeck_machinery::{Reason, Status, Value, json, value};
use cloudeck_schema::TypeRef;

use crate::registry::decode::{self, Expected};
use crate::registry::{self, Call};

pub(crate) use reviews::answer as answer_virtual;

pub(crate) async fn dispatch(call: &mut Call<'_>) -> Result<Response, Status> {
    let (info, request) = (call.view.info, call.request);
    let sub = info
        .subresource(&request.subresource)
        .ok_or_else(crate::server::no_such_resource)?;
    if !sub.has_verb(request.verb.as_str()) {
        return Err(crate::server::no_such_method());
    }
    match (info.plural, request.subresource.as_str(), request.verb) {
        (_, "status" | "approval", Verb::Get) => registry::read::get(call).await,
        (_, "status" | "approval", Verb::Update) | ("namespaces", "finalize", Verb::Update) => {
            registry::update::update(call).await
        }
        (_, "status" | "approval", Verb::Patch) => registry::patch::patch(call).await,
        (_, "scale", _) => scale::answer(call).await,
        ("pods", "binding", Verb::Create) => binding::bind(call).await,
        ("pods", "eviction", Verb::Create) => eviction::evict(call).await,
        ("serviceaccounts", "token", Verb::Create) => token::issue(call),
        (plural, other, _) => Err(unserved(&format!("{plural}/{other}"))),
    }
}

/// The clear refusal of what this release does not do.
pub(crate) fn unserved(what: &str) -> Status {
    Status::new(
        Reason::MethodNotAllowed,
        format!("{what} is not supported by this server yet"),
    )
    .with_code(501)
}

/// The request's body as this kind, in Go's form.
fn body(call: &Call<'_>, api_version: &str, kind: &str) -> Result<(Value, TypeRef), Status> {
    let (group, version) = cloudeck_machinery::object::split_api_version(api_version);
    let ty = cloudeck_schema::type_of_kind(group, version, kind)
        .ok_or_else(|| Status::internal(format!("no schema of {api_version} {kind}")))?;
    let tree = decode::lenient(
        &call.request.body,
        Expected {
            api_version,
            kind,
            ty,
        },
    )?;
    Ok((tree, ty))
}

/// A tree as an answer.
fn reply(ty: TypeRef, tree: &Value, code: u16) -> Response {
    let mut bytes = Vec::with_capacity(1024);
    cloudeck_schema::write_json(Some(ty), tree, &mut bytes);
    Response::Json {
        bytes: bytes.into(),
        code,
    }
}

fn created() -> Response {
    let status =
        value!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Response::Json {
        bytes: json::to_vec(&status).into(),
        code: 201,
    }
}
