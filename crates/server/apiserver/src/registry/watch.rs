//! WATCH: from which revision, with which objects to begin, and for how long.

use std::time::Duration;

use cloudeck_client::Params;
use cloudeck_machinery::{Cause, CauseType, Status};

use super::{Call, list, read};
use crate::cache::watcher::{WatchSetup, Watcher};

/// A watch without a time-out ends after this long and up to twice that, as upstream.
const MIN_DURATION: Duration = Duration::from_mins(30);
/// What a client asks for beyond this comes to the same, and clocks can still count it.
const LONGEST: u64 = 10 * 366 * 86_400;

/// Opens the watch that the request asks for.
pub(crate) async fn open(call: &Call<'_>) -> Result<Watcher, Status> {
    let params = &call.request.params;
    check_options(params)?;
    let selection = list::selection(call)?;
    let version = params.resource_version.as_str();
    let send_initial = params.send_initial_events;
    let from_now = matches!(version, "" | "0");
    read::at_least(call.core, version).await?;
    let with_objects = send_initial.unwrap_or(from_now);
    let (initial, cursor) = if with_objects || from_now {
        let (snapshot, _) = call.kind().cache.snapshot(
            &selection.namespace,
            &call.core.frontier,
            None,
            usize::MAX,
            |object| with_objects && selection.matches(object),
        );
        (snapshot.objects, snapshot.revision)
    } else {
        (Vec::new(), read::parse_revision(version)?)
    };
    let setup = WatchSetup {
        kind: std::sync::Arc::clone(call.kind()),
        selection,
        initial,
        cursor,
        mark_initial: send_initial == Some(true) && params.allow_watch_bookmarks,
        bookmarks: params.allow_watch_bookmarks,
        timeout: duration(call),
    };
    Watcher::open(
        setup,
        std::sync::Arc::clone(&call.core.frontier),
        std::sync::Arc::clone(&call.core.store),
    )
    .await
}

fn duration(call: &Call<'_>) -> Duration {
    match call.request.params.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(LONGEST)),
        _ => {
            let share = f64::from(u32::from_le_bytes(call.core.ids.bytes())) / f64::from(u32::MAX);
            MIN_DURATION.mul_f64(1.0 + share)
        }
    }
}

/// Upstream's rules for the parameters of a watch.
fn check_options(params: &Params) -> Result<(), Status> {
    let mut causes = Vec::new();
    let field = || "resourceVersionMatch".to_owned();
    let forbidden = |why: &str| Cause {
        cause: CauseType::Forbidden,
        message: format!("Forbidden: {why}"),
        field: field(),
    };
    let wanted = params.resource_version_match.as_str();
    if params.send_initial_events.is_some() && wanted != "NotOlderThan" {
        causes.push(forbidden(
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if !wanted.is_empty() {
        if params.send_initial_events.is_none() {
            causes.push(forbidden(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        if wanted != "NotOlderThan" {
            let message = format!("Unsupported value: {wanted:?}: supported values: \"NotOlderThan\"");
            causes.push(Cause {
                cause: CauseType::NotSupported,
                message,
                field: field(),
            });
        }
        if !params.continue_token.is_empty() {
            causes.push(forbidden(
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
    }
    list::refuse(causes)
}
