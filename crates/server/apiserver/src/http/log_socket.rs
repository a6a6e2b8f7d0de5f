//! An answer's body as messages of a WebSocket: how browsers read logs.
//!
//! Source: `apiserver/pkg/endpoints/handlers/responsewriters`, `streaming/pkg/httpstream/wsstream/stream.go`. An empty
//! message goes first; what the client sends is not looked at, but its close ends the stream.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes};
use cloudeck_machinery::{Reason, Status};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::body::EdgeBody;
use super::connection::Edge;

/// Of a client that offers none, and the two with a name; the last sends text.
const PROTOCOLS: [&str; 3] = ["", "binary.k8s.io", BASE64];
const BASE64: &str = "base64.binary.k8s.io";
/// How long the client may take to answer our close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// What was agreed on with a client that wants a WebSocket.
pub(super) struct Handshake {
    protocol: &'static str,
    accept: String,
    upgrade: hyper::upgrade::OnUpgrade,
}

impl Handshake {
    /// Reads the client's wish and takes it out of the request, which then asks for a plain answer.
    pub(super) fn take<B>(request: &mut http::Request<B>) -> Result<Self, Status> {
        let upgrade = hyper::upgrade::on(&mut *request);
        let headers = request.headers_mut();
        let protocol = choose(headers)?;
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.ok_or_else(|| Status::bad_request("the WebSocket request has no key"))?;
        let accept = derive_accept_key(key.as_bytes());
        for name in [
            header::CONNECTION,
            header::UPGRADE,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_PROTOCOL,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_EXTENSIONS,
        ] {
            headers.remove(name);
        }
        Ok(Self {
            protocol,
            accept,
            upgrade,
        })
    }

    /// Sends `answer`'s body as messages.
    pub(super) fn answer(self, edge: &Edge, answer: Response<EdgeBody>) -> Response<EdgeBody> {
        let mut response = Response::new(EdgeBody::Full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if !self.protocol.is_empty() {
            headers.insert(
                header::SEC_WEBSOCKET_PROTOCOL,
                HeaderValue::from_static(self.protocol),
            );
        }
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        let (upgrade, text) = (self.upgrade, self.protocol == BASE64);
        edge.scope().spawn_until_shutdown("log-socket", async move {
            match upgrade.await {
                Ok(io) => send(TokioIo::new(io), answer.into_body(), text).await,
                Err(error) => tracing::debug!(%error, "log was not upgraded"),
            }
        });
        response
    }
}

fn choose(headers: &HeaderMap) -> Result<&'static str, Status> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let lines = lines.filter_map(|value| value.to_str().ok());
    let mut offers = lines.flat_map(|line| line.split(',')).map(str::trim).peekable();
    if offers.peek().is_none() {
        return Ok("");
    }
    let known = offers.find_map(|offer| PROTOCOLS.into_iter().find(|known| *known == offer));
    known.ok_or_else(|| {
        Status::new(
            Reason::Forbidden,
            "requested protocol(s) are not supported; supports binary.k8s.io and base64.binary.k8s.io",
        )
    })
}

async fn send(io: TokioIo<hyper::upgrade::Upgraded>, mut body: EdgeBody, text: bool) {
    let (mut sink, mut source) = WebSocketStream::from_raw_socket(io, Role::Server, None)
        .await
        .split();
    let message = |data: Bytes| {
        if text {
            Message::Text(STANDARD.encode(data).into())
        } else {
            Message::Binary(data)
        }
    };
    let sending = async {
        if sink.send(message(Bytes::new())).await.is_err() {
            return;
        }
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(mut data) = frame.into_data() else { continue };
            let data = data.copy_to_bytes(data.remaining());
            if sink.send(message(data)).await.is_err() {
                return;
            }
        }
        // The client may be gone already.
        let _ = sink.close().await;
    };
    let ignoring = async { while let Some(Ok(_)) = source.next().await {} };
    tokio::pin!(sending, ignoring);
    tokio::select! {
        // A socket closed over unread bytes is reset, which may overtake what was sent: the client closes, too.
        () = &mut sending => {
            let _ = tokio::time::timeout(CLOSE_WAIT, ignoring).await;
        }
        () = &mut ignoring => {}
    }
}
