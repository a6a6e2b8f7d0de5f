//! What passing a request on has in common, whoever answers it: the connection, and the way of the answer back.

use std::pin::Pin;

use futures_util::stream;
use http::{HeaderName, Response, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::body::EdgeBody;
use super::connection::Edge;
use super::node::NodeStream;

/// Speaks HTTP on a fresh connection. `task` names who keeps it going; its end is seen in the answer's body.
pub(super) async fn speak<B>(
    edge: &Edge,
    task: &'static str,
    stream: Pin<Box<dyn NodeStream>>,
) -> hyper::Result<SendRequest<B>>
where
    B: Body<Error: std::error::Error + Send + Sync, Data: Send> + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    edge.scope().spawn_until_shutdown(task, async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

/// Streams an answer on, with those of its headers that `passes` lets through. The sender lives as long as the stream:
/// without it the connection would close.
pub(super) fn back<B: Send + 'static>(
    answer: Response<Incoming>,
    sender: SendRequest<B>,
    passes: impl Fn(&HeaderName) -> bool,
) -> Response<EdgeBody> {
    let (parts, body) = answer.into_parts();
    let stream = stream::unfold((body, sender), |(mut body, sender)| async move {
        loop {
            let frame = body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some((data, (body, sender)));
            }
        }
    });
    let mut response = Response::new(EdgeBody::Stream(Box::pin(stream)));
    *response.status_mut() = parts.status;
    for (name, value) in parts.headers.iter().filter(|(name, _)| passes(name)) {
        response.headers_mut().append(name.clone(), value.clone());
    }
    response
}

/// Whether a header says who asks, or whom: that stays with the API server.
pub(super) fn is_credential(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION
        || *name == header::HOST
        || name.as_str().starts_with("x-remote-")
        || name.as_str().starts_with("impersonate-")
}
