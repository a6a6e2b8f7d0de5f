//! Kinds without storage: access and token reviews, component statuses, bindings posted to their collection.

use std::sync::Arc;

use cloudeck_auth::UserInfo;
use cloudeck_auth::review::{AccessReview, review_access, review_rules, review_self, review_token};
use cloudeck_client::{Request, Response, Verb};
use cloudeck_machinery::Status;
use cloudeck_schema::ResourceInfo;

use super::{reply, unserved};
use crate::registry::decode::{self, Expected};
use crate::server::{Core, no_such_method, no_such_resource};

/// Answers a request for a kind that is never stored.
pub(crate) fn answer(
    core: &Core,
    user: &Arc<UserInfo>,
    request: &Request,
    info: &'static ResourceInfo,
) -> Result<Response, Status> {
    if !info.has_verb(request.verb.as_str()) {
        return Err(no_such_method());
    }
    if request.verb != Verb::Create || !request.subresource.is_empty() {
        return Err(no_such_resource());
    }
    let ty = info.root.ok_or_else(no_such_resource)?;
    let api_version = crate::kinds::api_version(info.group, info.version);
    let body = decode::lenient(
        &request.body,
        Expected {
            api_version: &api_version,
            kind: info.kind,
            ty,
        },
    )?;
    let now = core.clock.system_time();
    let access = |review| review_access(review, &body, &*core.authorizer);
    let mut answer = match info.kind {
        "SelfSubjectAccessReview" => access(AccessReview::OwnAccess(user)),
        "SubjectAccessReview" => access(AccessReview::Subject),
        "LocalSubjectAccessReview" => access(AccessReview::LocalSubject(&request.namespace)),
        "SelfSubjectRulesReview" => review_rules(user, &body, &core.authorizer),
        "SelfSubjectReview" => Ok(review_self(user, now)),
        "TokenReview" => review_token(&body, &core.tokens, core, now),
        other => Err(unserved(&format!("posting a {other} to its collection"))),
    }?;
    cloudeck_schema::normalise(ty, &mut answer)
        .map_err(|errors| Status::internal(errors.first().map(ToString::to_string).unwrap_or_default()))?;
    Ok(reply(ty, &answer, 201))
}
