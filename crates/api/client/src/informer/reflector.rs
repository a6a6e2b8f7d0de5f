//! Keeps an informer equal to the server: WatchList, resumption, and a fresh start after 410.

use std::collections::HashSet;
use std::time::Duration;

use cloudeck_machinery::{ObjectKey, Reason, Status};
use futures_util::StreamExt;

use super::{Informer, InformerConfig};
use crate::{Client, Request, WatchEvent, WatchStream};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Follows until the task is dropped.
pub(super) async fn follow(informer: Informer, client: Client, config: InformerConfig) {
    let mut backoff = FIRST_BACKOFF;
    let mut reached: Option<u64> = None;
    loop {
        let outcome = match reached {
            Some(revision) => resume(&informer, &client, &config, revision).await,
            None => start_over(&informer, &client, &config).await,
        };
        match outcome {
            Ok(revision) => {
                // The server ends watches as a matter of course; only a watch that brought nothing waits.
                backoff = if reached == Some(revision) {
                    backoff
                } else {
                    FIRST_BACKOFF
                };
                reached = Some(revision);
            }
            Err(Lost::Expired) => {
                reached = None;
                continue;
            }
            Err(Lost::Failed(status)) => {
                tracing::debug!(resource = %config.resource, error = %status, "watch failed; trying again");
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

enum Lost {
    Expired,
    Failed(Status),
}

impl From<Status> for Lost {
    fn from(status: Status) -> Self {
        match status.reason {
            Reason::Expired | Reason::Gone => Self::Expired,
            _ => Self::Failed(status),
        }
    }
}

/// A WatchList: initial events, then the rest of the same stream.
async fn start_over(informer: &Informer, client: &Client, config: &InformerConfig) -> Result<u64, Lost> {
    let mut params = config.params();
    params.send_initial_events = Some(true);
    "NotOlderThan".clone_into(&mut params.resource_version_match);
    let request = Request::watch(&config.resource, &config.namespace).with_params(params);
    let mut stream = client.watch(request).await?;
    let mut seen = HashSet::new();
    let mut revision = 0;
    while let Some(event) = stream.next().await {
        if let WatchEvent::Bookmark {
            revision: at,
            initial_events_end: true,
        } = event
        {
            drop_unseen(informer, &seen);
            informer.has_all_to(at);
            informer.inner.synced.send_replace(true);
            return drain(informer, stream, at).await;
        }
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = &event {
            seen.insert(object.key.clone());
        }
        revision = take(informer, event, revision)?;
    }
    Err(Lost::Failed(Status::new(
        Reason::ServerTimeout,
        "the watch ended before its initial events",
    )))
}

fn drop_unseen(informer: &Informer, seen: &HashSet<ObjectKey>) {
    let gone: Vec<ObjectKey> = informer
        .cache()
        .keys()
        .filter(|key| !seen.contains(*key))
        .cloned()
        .collect();
    for key in gone {
        informer.remove(&key);
    }
}

async fn resume(
    informer: &Informer,
    client: &Client,
    config: &InformerConfig,
    revision: u64,
) -> Result<u64, Lost> {
    let mut params = config.params();
    params.resource_version = revision.to_string();
    let request = Request::watch(&config.resource, &config.namespace).with_params(params);
    let stream = client.watch(request).await?;
    drain(informer, stream, revision).await
}

async fn drain(informer: &Informer, mut stream: WatchStream, mut revision: u64) -> Result<u64, Lost> {
    while let Some(event) = stream.next().await {
        match take(informer, event, revision) {
            Ok(at) => {
                informer.has_all_to(at);
                revision = at;
            }
            // What was reached is kept: a broken stream resumes, an expired one starts over.
            Err(Lost::Failed(_)) => break,
            Err(expired) => return Err(expired),
        }
    }
    Ok(revision)
}

fn take(informer: &Informer, event: WatchEvent, revision: u64) -> Result<u64, Lost> {
    Ok(match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            let at = object.revision;
            informer.set(object);
            revision.max(at)
        }
        WatchEvent::Deleted(object) => {
            informer.remove(&object.key);
            revision.max(object.revision)
        }
        WatchEvent::Bookmark { revision: at, .. } => revision.max(at),
        WatchEvent::Error(status) => return Err(status.into()),
    })
}
