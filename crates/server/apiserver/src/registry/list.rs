//! LIST: from the cache, or at an old revision from the datastore; whole or in chunks.

mod token;

use std::sync::Arc;

use bytes::Bytes;
use cloudeck_client::{ListMeta, ObjectList, Params, Response};
use cloudeck_engine::{RangeError, RangeRequest, Revision};
use cloudeck_machinery::{Cause, CauseType, Object, Reason, Status};

use super::{Call, read};
use crate::cache::{feed, joined};
use crate::selection::Selection;
use token::ContinueToken;

/// Keys read from the datastore at once for a list at an old revision.
const PAGE: usize = 1_000;

pub(crate) async fn list(call: &mut Call<'_>) -> Result<Response, Status> {
    check_options(&call.request.params)?;
    let selection = selection(call)?;
    let list = chunk(call, &selection).await?;
    Ok(Response::List(present(call, list)))
}

/// Everything that the request's selectors select, now.
pub(crate) fn select(call: &Call<'_>) -> Result<ObjectList, Status> {
    let selection = selection(call)?;
    let (items, revision, _) = from_cache(call, &selection, None, 0);
    let meta = ListMeta {
        revision,
        ..ListMeta::default()
    };
    Ok(present(call, ObjectList { items, meta }))
}

pub(crate) fn selection(call: &Call<'_>) -> Result<Selection, Status> {
    let (request, params) = (call.request, &call.request.params);
    Selection::parse(
        call.view,
        &request.namespace,
        &request.name,
        &params.label_selector,
        &params.field_selector,
    )
}

fn present(call: &Call<'_>, mut list: ObjectList) -> ObjectList {
    if call.view.conversion != crate::conversion::Conversion::Identity {
        list.items = list
            .items
            .iter()
            .map(|object| call.view.present(object))
            .collect();
    }
    list
}

async fn chunk(call: &Call<'_>, selection: &Selection) -> Result<ObjectList, Status> {
    let params = &call.request.params;
    let limit = params
        .limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(0);
    if !params.continue_token.is_empty() {
        return continued(call, selection, limit).await;
    }
    let wanted = read::parse_revision(&params.resource_version)?;
    if params.resource_version_match == "Exact" {
        read::at_least(call.core, &params.resource_version).await?;
        return at_revision(call, selection, wanted, None, limit).await;
    }
    read::at_least(call.core, &params.resource_version).await?;
    // As upstream: a list from the cache as it is comes whole.
    let limit = if params.resource_version == "0" { 0 } else { limit };
    let (items, revision, more) = from_cache(call, selection, None, limit);
    Ok(finish(call, selection, items, revision, more))
}

async fn continued(call: &Call<'_>, selection: &Selection, limit: usize) -> Result<ObjectList, Status> {
    let params = &call.request.params;
    if !params.resource_version.is_empty() && params.resource_version != "0" {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let token = ContinueToken::decode(&params.continue_token)?;
    if let Some(revision) = token.revision {
        return at_revision(call, selection, revision, Some(&token.after), limit).await;
    }
    let (items, revision, more) = from_cache(call, selection, Some(&token.after), limit);
    Ok(finish(call, selection, items, revision, more))
}

/// The kind as it was at a revision: from the cache if nothing has changed since.
async fn at_revision(
    call: &Call<'_>,
    selection: &Selection,
    revision: u64,
    after: Option<&str>,
    limit: usize,
) -> Result<ObjectList, Status> {
    let horizon = call.core.store.compact_revision().get();
    if revision >= horizon && call.kind().cache.last_change() <= revision {
        let (items, _, more) = from_cache(call, selection, after, limit);
        if call.kind().cache.last_change() <= revision {
            return Ok(finish(call, selection, items, revision, more));
        }
    }
    let (items, more) = from_store(call, selection, revision, after, limit).await?;
    Ok(finish(call, selection, items, revision, more))
}

fn from_cache(
    call: &Call<'_>,
    selection: &Selection,
    after: Option<&str>,
    limit: usize,
) -> (Vec<Arc<Object>>, u64, bool) {
    let (core, cache) = (call.core, &call.kind().cache);
    if let Some(name) = selection.name.as_deref()
        && (!selection.namespace.is_empty() || !call.view.info.namespaced)
        && after.is_none()
    {
        let revision = core.frontier.revision();
        let object = cache
            .get(&selection.namespace, name)
            .filter(|object| selection.matches(object));
        return (
            object.into_iter().collect(),
            revision.max(cache.last_change()),
            false,
        );
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let (snapshot, more) = cache.snapshot(&selection.namespace, &core.frontier, after, limit, |object| {
        selection.matches(object)
    });
    (snapshot.objects, snapshot.revision, more)
}

async fn from_store(
    call: &Call<'_>,
    selection: &Selection,
    revision: u64,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<Arc<Object>>, bool), Status> {
    let kind = call.kind();
    let prefix = match selection.namespace.as_str() {
        "" => kind.prefix.to_string(),
        namespace => format!("{}{namespace}/", kind.prefix),
    };
    let at = Revision::new(revision).unwrap_or_default();
    let mut range = RangeRequest::prefix(prefix.as_bytes()).at(at).limit(PAGE);
    if let Some(after) = after {
        range.range.start = Bytes::from(format!("{}{after}\0", kind.prefix));
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut items = Vec::new();
    loop {
        let page = call
            .core
            .store
            .range(range.clone())
            .await
            .map_err(|error| expired(&error, after))?;
        for kv in &page.kvs {
            let object = feed::build(kind, kv).map_err(Status::internal)?;
            if !selection.matches(&object) {
                continue;
            }
            if items.len() == limit {
                return Ok((items, true));
            }
            items.push(Arc::new(object));
        }
        let Some(last) = page.kvs.last().filter(|_| page.more) else {
            return Ok((items, false));
        };
        let mut next = last.key.to_vec();
        next.push(0);
        range.range.start = next.into();
    }
}

fn expired(error: &RangeError, after: Option<&str>) -> Status {
    const CONTINUED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    const EXACT: &str = "The resourceVersion for the provided list is too old.";
    match (error, after) {
        (RangeError::Compacted { .. }, Some(after)) => {
            let mut status = Status::new(Reason::Expired, CONTINUED);
            let token = ContinueToken {
                revision: None,
                after: after.to_owned(),
            };
            status.continue_token = Some(token.encode());
            status
        }
        (RangeError::Compacted { .. }, None) => Status::new(Reason::Expired, EXACT),
        (other, _) => Status::internal(other),
    }
}

fn finish(
    call: &Call<'_>,
    selection: &Selection,
    items: Vec<Arc<Object>>,
    revision: u64,
    more: bool,
) -> ObjectList {
    let mut meta = ListMeta {
        revision,
        ..ListMeta::default()
    };
    if let Some(last) = items.last().filter(|_| more) {
        let after = joined(&last.key);
        if !selection.is_selective() {
            let remaining = call.kind().cache.count_after(&selection.namespace, &after);
            meta.remaining_item_count = i64::try_from(remaining).ok().filter(|count| *count > 0);
        }
        meta.continue_token = ContinueToken {
            revision: Some(revision),
            after: after.into(),
        }
        .encode();
    }
    ObjectList { items, meta }
}

/// Upstream's rules for the parameters of a list.
fn check_options(params: &Params) -> Result<(), Status> {
    let mut causes = Vec::new();
    let mut forbid = |field: &str, why: &str| {
        causes.push(Cause {
            cause: CauseType::Forbidden,
            message: format!("Forbidden: {why}"),
            field: field.into(),
        });
    };
    let wanted = params.resource_version_match.as_str();
    if !wanted.is_empty() {
        if params.resource_version.is_empty() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !params.continue_token.is_empty() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if wanted == "Exact" && params.resource_version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            forbid("resourceVersionMatch", why);
        }
    }
    if params.send_initial_events.is_some() {
        forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if !matches!(wanted, "" | "Exact" | "NotOlderThan") {
        let message =
            format!("Unsupported value: {wanted:?}: supported values: \"Exact\", \"NotOlderThan\", \"\"");
        let field = "resourceVersionMatch".into();
        causes.push(Cause {
            cause: CauseType::NotSupported,
            message,
            field,
        });
    }
    refuse(causes)
}

/// The refusal of list or watch parameters.
pub(crate) fn refuse(causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes))
    }
}
