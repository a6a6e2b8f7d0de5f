//! `GET /containerLogs/{namespace}/{pod}/{container}`.

use std::sync::Arc;

use cloudeck_machinery::{ObjectKey, Value};
use cloudeck_runtime::{ContainerId, ContainerState, ContainerStatus};
use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::sync::watch;

use super::query::Query;
use super::{Body, text};
use crate::logs::{LogOptions, LogStream, Stream};
use crate::node::Node;
use crate::pod::convert::label;
use crate::pod::status::CONTAINER_ID_SCHEME;

pub(super) async fn serve(
    node: &Arc<Node>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Response<Body> {
    let options = match options(node, query) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    let found = match attempt(node, namespace, pod, container, options.previous) {
        Ok(found) => found,
        Err((code, why)) => return text(code, &why),
    };
    let Some(path) = found.config.log_path.clone() else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the container keeps no log");
    };
    let follow = options.follow;
    let (end, ended) = watch::channel(found.state == ContainerState::Exited || !follow);
    let opened = tokio::task::spawn_blocking(move || LogStream::open(&path, options, ended)).await;
    let log = match opened {
        Ok(Ok(log)) => log,
        Ok(Err(error)) => return text(StatusCode::INTERNAL_SERVER_ERROR, &crate::pod::chain(&error)),
        Err(_) => return text(StatusCode::INTERNAL_SERVER_ERROR, "the log could not be read"),
    };
    if follow {
        tell_end(node, &found, end);
    }
    let chunks = stream::unfold(log, |mut log| async move {
        match log.next().await {
            Ok(Some(chunk)) => Some((Ok(Frame::data(chunk)), log)),
            Ok(None) => None,
            Err(error) => Some((Err(error), log)),
        }
    });
    let mut response = Response::new(StreamBody::new(chunks.boxed()).boxed_unsync());
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

/// The time, in nanoseconds, that lies so many seconds before `now_ms`.
fn since_seconds_ns(now_ms: i64, seconds: i64) -> i128 {
    (i128::from(now_ms) - i128::from(seconds) * 1000) * 1_000_000
}

fn options(node: &Node, query: &Query) -> Result<LogOptions, String> {
    let since_seconds = query.number::<i64>("sinceSeconds")?;
    let since_time = query.get("sinceTime").filter(|text| !text.is_empty());
    let since_time = since_time
        .map(|text| {
            text.parse::<jiff::Timestamp>()
                .map_err(|_| format!("invalid value {text:?} for sinceTime"))
        })
        .transpose()?;
    let since_ns = since_seconds
        .map(|seconds| since_seconds_ns(node.now(), seconds))
        .or_else(|| since_time.map(jiff::Timestamp::as_nanosecond));
    let stream = match query.get("stream") {
        None | Some("" | "All") => None,
        Some("Stdout") => Some(Stream::Stdout),
        Some("Stderr") => Some(Stream::Stderr),
        Some(other) => return Err(format!("invalid value {other:?} for stream")),
    };
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        tail_lines: query.number("tailLines")?,
        limit_bytes: query.number("limitBytes")?,
        since_ns,
        stream,
    })
}

/// The attempt whose log is asked for: the newest that has run, or the one that the pod's status calls the last.
///
/// Source: `pkg/kubelet/kubelet_pods.go` (`validateContainerLogStatus`).
fn attempt(
    node: &Node,
    namespace: &str,
    pod: &str,
    container: &str,
    previous: bool,
) -> Result<ContainerStatus, (StatusCode, String)> {
    let key = ObjectKey::new(namespace, pod);
    let object = node
        .pods
        .get(&key)
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod \"{pod}\" does not exist")))?;
    let tree = object.tree();
    let known = ["containerStatuses", "initContainerStatuses"]
        .iter()
        .flat_map(|list| tree.items_at(&["status", list]))
        .find(|status| status.str_at(&["name"]) == Some(container));
    let found = if previous {
        let id = known.and_then(|status| status.str_at(&["lastState", "terminated", "containerID"]));
        let id = id.and_then(|id| ContainerId::parse(id.strip_prefix(CONTAINER_ID_SCHEME)?));
        id.and_then(|id| node.runtime.container_status(&id).ok())
    } else {
        let containers = node.runtime.containers().into_iter();
        containers
            .filter(|c| {
                let uid = c.config.labels.get(label::POD_UID);
                uid.is_some_and(|uid| *uid == *object.uid)
                    && c.config.name == container
                    && c.state != ContainerState::Created
            })
            .max_by_key(|c| c.config.attempt)
    };
    found.ok_or_else(|| {
        let why = if previous {
            format!("previous terminated container \"{container}\" in pod \"{pod}\" not found")
        } else {
            format!("container \"{container}\" in pod \"{pod}\" {}", no_log(known))
        };
        (StatusCode::BAD_REQUEST, why)
    })
}

/// Why a container has no log.
fn no_log(status: Option<&Value>) -> String {
    let Some(status) = status else {
        return "is not available".to_owned();
    };
    if status.str_at(&["state", "terminated", "reason"]).is_some() {
        return "is terminated".to_owned();
    }
    match status.str_at(&["state", "waiting", "reason"]) {
        Some("ErrImagePull") => "is waiting to start: image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => "is waiting to start: trying and failing to pull image".to_owned(),
        Some(reason) => format!("is waiting to start: {reason}"),
        None => "is waiting to start - no logs yet".to_owned(),
    }
}

/// Turns `end` true when the container has ended.
fn tell_end(node: &Arc<Node>, found: &ContainerStatus, end: watch::Sender<bool>) {
    let mut events = node.runtime.events();
    let (node_ref, id) = (Arc::clone(node), found.id.clone());
    node.scope.spawn_until_shutdown("log end", async move {
        loop {
            // Looked at anew after each event: events are hints and may be missed.
            let status = node_ref.runtime.container_status(&id);
            if status.map_or(true, |status| status.state == ContainerState::Exited) {
                end.send_replace(true);
                return;
            }
            tokio::select! {
                event = events.recv() => {
                    if matches!(event, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
                        return;
                    }
                }
                // The reader is gone.
                () = end.closed() => return,
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[test]
    fn any_number_of_seconds_may_be_looked_back() {
        assert_eq!(since_seconds_ns(5_000, 2), 3_000_000_000);
        for seconds in [i64::MIN, i64::MAX] {
            assert_eq!(since_seconds_ns(5_000, seconds) > 0, seconds < 0);
        }
    }

    #[test]
    fn a_container_without_a_log_says_why_in_upstreams_words() {
        let waiting = |reason: &str| no_log(Some(&value!({"state": {"waiting": {"reason": (reason)}}})));
        assert_eq!(
            waiting("ImagePullBackOff"),
            "is waiting to start: trying and failing to pull image"
        );
        assert_eq!(waiting("PodInitializing"), "is waiting to start: PodInitializing");
        let ended = value!({"state": {"terminated": {"reason": "ContainerStatusUnknown"}}});
        assert_eq!(no_log(Some(&ended)), "is terminated");
        assert_eq!(no_log(None), "is not available");
    }
}
