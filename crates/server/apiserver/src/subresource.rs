//! Everything under an object that is not the object: status, scale, binding, eviction, tokens; and the kinds without
//! storage.

use cloudeck_client::{Response, Verb};
use cloudeck_machinery::Status;
use cloudeck_schema::ResourceInfo;

use crate::registry::{self, Call};

pub(crate) async fn dispatch(call: &mut Call<'_>) -> Result<Response, Status> {
    let (info, request) = (call.view.info, call.request);
    let sub = info
        .subresource(&request.subresource)
        .ok_or_else(crate::server::no_such_resource)?;
    if !sub.has_verb(request.verb.as_str()) {
        return Err(Status::method_not_allowed(
            info.group,
            info.plural,
            request.verb.as_str(),
        ));
    }
    match (request.subresource.as_str(), request.verb) {
        ("status", Verb::Get) => registry::read::get(call).await,
        ("status", Verb::Update) => registry::update::update(call).await,
        ("status", Verb::Patch) => registry::patch::patch(call).await,
        (other, _) => Err(Status::new(
            cloudeck_machinery::Reason::MethodNotAllowed,
            format!("the subresource {other:?} of {} is not served yet", info.plural),
        )),
    }
}

/// Answers a kind that is never stored.
pub(crate) struct Reviewer;

impl Reviewer {
    pub(crate) fn answer(&self, _call: &mut Call<'_>) -> Result<Response, Status> {
        Err(Status::internal("not served"))
    }
}

pub(crate) fn virtual_kind(_info: &ResourceInfo) -> Option<Reviewer> {
    None
}
