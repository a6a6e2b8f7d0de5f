//! GET of one object, and how fresh a read must be.

use std::time::Duration;

use cloudeck_client::Response;
use cloudeck_machinery::{Cause, CauseType, Reason, Status};

use super::Call;
use crate::server::Core;

/// How long a read waits for a revision that the caches have not reached.
const FRESHNESS_WAIT: Duration = Duration::from_secs(3);

pub(crate) async fn get(call: &mut Call<'_>) -> Result<Response, Status> {
    at_least(call.core, &call.request.params.resource_version).await?;
    let object = call.current()?;
    Ok(call.answer(&object, false))
}

/// Waits until the caches have the resourceVersion that a client asks for as a minimum.
pub(crate) async fn at_least(core: &Core, version: &str) -> Result<(), Status> {
    if matches!(version, "" | "0") {
        return Ok(());
    }
    let wanted = parse_revision(version)?;
    if core.frontier.revision() >= wanted {
        return Ok(());
    }
    if tokio::time::timeout(FRESHNESS_WAIT, core.frontier.reached(wanted))
        .await
        .is_ok()
    {
        return Ok(());
    }
    Err(too_large(wanted, core.frontier.revision()))
}

/// A resourceVersion parameter; empty is 0.
pub(crate) fn parse_revision(version: &str) -> Result<u64, Status> {
    if version.is_empty() {
        return Ok(0);
    }
    version.parse().map_err(|_| {
        let why = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
        Status::bad_request(format!("resourceVersion: Invalid value: {version:?}: {why}"))
    })
}

fn too_large(wanted: u64, current: u64) -> Status {
    let message = format!("Too large resource version: {wanted}, current: {current}");
    let cause = Cause {
        cause: CauseType::ResourceVersionTooLarge,
        message: "Too large resource version".into(),
        field: String::new(),
    };
    Status::new(Reason::Timeout, format!("Timeout: {message}"))
        .with_causes(vec![cause])
        .with_retry_after(1)
}
