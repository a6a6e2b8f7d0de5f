//! `/exec/{namespace}/{pod}/{container}` over WebSocket.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cloudeck_machinery::ObjectKey;
use cloudeck_runtime::{ContainerId, ContainerState, ExecHandle, ExecRequest, Stdio};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::exec_channel::{self as channel, FromClient, Protocol};
use super::query::Query;
use super::{Body, full, text};
use crate::node::Node;
use crate::pod::convert::label;

/// Frames on their way to the client; a slow client slows the process, as a pipe would.
const OUTGOING: usize = 16;
const READ_BYTES: usize = 32 * 1024;
/// A short process may be over before its client has sent its first word (the terminal's size, the end of a piped
/// stdin). Clients complain when they write after the close, so that word is waited for, this long.
const LAST_WORD: Duration = Duration::from_millis(100);
/// How long the client may take to answer our close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

pub(super) fn serve(
    node: &Arc<Node>,
    target: (&str, &str, &str),
    query: &Query,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let argv = query.all("command");
    if argv.is_empty() {
        return text(
            StatusCode::BAD_REQUEST,
            "you must specify at least one command for the container",
        );
    }
    let id = match running(node, target) {
        Ok(id) => id,
        Err((code, why)) => return text(code, &why),
    };
    let (key, protocol) = match handshake(request.headers()) {
        Ok(agreed) => agreed,
        Err(why) => return text(StatusCode::BAD_REQUEST, &why),
    };
    let session = Session {
        node: Arc::clone(node),
        id,
        protocol,
        argv,
        tty: query.flag("tty"),
        stdin: query.flag("input") || query.flag("stdin"),
        stdout: query.flag("output") || query.flag("stdout"),
        stderr: query.flag("error") || query.flag("stderr"),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    node.scope.spawn_until_shutdown("exec", async move {
        match upgrade.await {
            Ok(io) => {
                session
                    .run(WebSocketStream::from_raw_socket(TokioIo::new(io), Role::Server, None).await)
                    .await;
            }
            Err(error) => tracing::debug!(%error, "exec was not upgraded"),
        }
    });
    let mut response = Response::new(full(Vec::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if !protocol.name.is_empty() {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(protocol.name),
        );
    }
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

fn handshake(headers: &HeaderMap) -> Result<(String, &'static Protocol), String> {
    let upgrade = headers
        .get(header::UPGRADE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case("websocket") {
        return Err(
            "exec needs a WebSocket (v5.channel.k8s.io and before); SPDY is not supported".to_owned(),
        );
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|value| value.to_str().ok());
    let key = key.ok_or("the WebSocket request has no key")?.to_owned();
    let offers = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let chosen = Protocol::choose(offers.flat_map(|line| line.split(',')));
    Ok((
        key,
        chosen.ok_or("none of the offered protocols is known: v5.channel.k8s.io and before")?,
    ))
}

fn running(
    node: &Node,
    (namespace, pod, container): (&str, &str, &str),
) -> Result<ContainerId, (StatusCode, String)> {
    let object = node.pods.get(&ObjectKey::new(namespace, pod));
    let object = object.ok_or_else(|| (StatusCode::NOT_FOUND, "pod does not exist".to_owned()))?;
    let containers = node.runtime.containers();
    let found = containers.into_iter().find(|c| {
        c.state == ContainerState::Running
            && c.config.name == container
            && c.config
                .labels
                .get(label::POD_UID)
                .is_some_and(|uid| *uid == *object.uid)
    });
    found.map(|c| c.id).ok_or_else(|| {
        (
            StatusCode::NOT_FOUND,
            format!("container not found (\"{container}\")"),
        )
    })
}

struct Session {
    node: Arc<Node>,
    id: ContainerId,
    protocol: &'static Protocol,
    argv: Vec<String>,
    tty: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

/// Our ends of the process's standard streams.
struct Streams {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Session {
    async fn run(self, mut socket: Socket) {
        let begun = if self.tty {
            self.begin_terminal().await
        } else {
            self.begin_pipes().await
        };
        let (handle, streams) = match begun {
            Ok(begun) => begun,
            Err(why) => {
                // A client that went away needs no answer.
                let _ = socket.send(self.protocol.failure(&why)).await;
                let _ = socket.close(Some(normal())).await;
                return;
            }
        };
        pump(socket, handle, streams, self.protocol).await;
    }

    fn request(&self, stdio: Stdio) -> ExecRequest {
        ExecRequest {
            argv: self.argv.clone(),
            env: Vec::new(),
            cwd: None,
            user: None,
            stdio,
        }
    }

    async fn begin_terminal(&self) -> Result<(ExecHandle, Streams), String> {
        let request = self.request(Stdio::Terminal {
            columns: 80,
            rows: 24,
        });
        let handle = self
            .node
            .runtime
            .exec(&self.id, request)
            .await
            .map_err(|e| crate::pod::chain(&e))?;
        let terminal = handle.terminal.as_ref().ok_or("the process has no terminal")?;
        let input = terminal.try_clone().map_err(|e| e.to_string())?;
        let output = terminal.try_clone().map_err(|e| e.to_string())?;
        let stdin = pipe_sender(input)?;
        let stdout = pipe_receiver(output)?;
        Ok((
            handle,
            Streams {
                stdin: Some(stdin),
                stdout: Some(stdout),
                stderr: None,
            },
        ))
    }

    async fn begin_pipes(&self) -> Result<(ExecHandle, Streams), String> {
        let failed = |e: std::io::Error| format!("make a pipe: {e}");
        let (mut streams, mut theirs) = (
            Streams {
                stdin: None,
                stdout: None,
                stderr: None,
            },
            [None, None, None],
        );
        if self.stdin {
            let (sender, receiver) = pipe::pipe().map_err(failed)?;
            streams.stdin = Some(sender);
            theirs[0] = Some(receiver.into_blocking_fd().map_err(failed)?);
        }
        if self.stdout {
            let (sender, receiver) = pipe::pipe().map_err(failed)?;
            streams.stdout = Some(receiver);
            theirs[1] = Some(sender.into_blocking_fd().map_err(failed)?);
        }
        if self.stderr {
            let (sender, receiver) = pipe::pipe().map_err(failed)?;
            streams.stderr = Some(receiver);
            theirs[2] = Some(sender.into_blocking_fd().map_err(failed)?);
        }
        let [stdin, stdout, stderr] = theirs;
        let request = self.request(Stdio::Pipes {
            stdin,
            stdout,
            stderr,
        });
        let handle = self
            .node
            .runtime
            .exec(&self.id, request)
            .await
            .map_err(|e| crate::pod::chain(&e))?;
        Ok((handle, streams))
    }
}

/// A terminal's master behaves as a pipe does, but is not one.
fn pipe_sender(fd: OwnedFd) -> Result<pipe::Sender, String> {
    pipe::Sender::from_owned_fd_unchecked(nonblocking(fd)?).map_err(|e| e.to_string())
}

fn pipe_receiver(fd: OwnedFd) -> Result<pipe::Receiver, String> {
    pipe::Receiver::from_owned_fd_unchecked(nonblocking(fd)?).map_err(|e| e.to_string())
}

fn nonblocking(fd: OwnedFd) -> Result<OwnedFd, String> {
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(|e| e.to_string())?;
    rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK).map_err(|e| e.to_string())?;
    Ok(fd)
}

/// Moves bytes both ways until the process has ended and its output is sent.
async fn pump(socket: Socket, mut handle: ExecHandle, streams: Streams, protocol: &'static Protocol) {
    let (mut sink, source) = socket.split();
    let (outgoing, mut frames) = mpsc::channel::<Message>(OUTGOING);
    let Streams {
        stdin,
        stdout,
        stderr,
    } = streams;
    let terminal = handle.terminal.take();
    let (has_terminal, has_stdin) = (terminal.is_some(), stdin.is_some());
    let (said, mut client_said) = watch::channel(false);
    let outputs = async {
        let (out, err) = (outgoing.clone(), outgoing.clone());
        tokio::join!(
            copy_out(stdout, |data| protocol.message(channel::STDOUT, data), out),
            copy_out(stderr, |data| protocol.message(channel::STDERR, data), err)
        );
        let end = match handle.wait().await {
            Ok(code) => protocol.end(code),
            Err(error) => Some(protocol.failure(&crate::pod::chain(&error))),
        };
        if let Some(end) = end {
            // The writer below lives until all senders are gone.
            let _ = outgoing.send(end).await;
        }
        if has_terminal || has_stdin {
            // An error means that the client is gone.
            let _ = tokio::time::timeout(LAST_WORD, client_said.wait_for(|said| *said)).await;
        }
        drop(outgoing);
    };
    let writer = async {
        while let Some(frame) = frames.recv().await {
            if sink.send(frame).await.is_err() {
                return;
            }
        }
        // Clients tell a finished exec from a broken one by the code of the close.
        let _ = sink.send(Message::Close(Some(normal()))).await;
    };
    let reader = read_client(source, protocol, stdin, terminal, said);
    let all = async { tokio::join!(outputs, writer) };
    tokio::pin!(all, reader);
    tokio::select! {
        _ = &mut all => {}
        // The client is gone; the process sees its streams end.
        () = &mut reader => return,
    }
    // A socket closed over unread bytes is reset, and a reset may overtake what was sent: wait for the client's close.
    if tokio::time::timeout(CLOSE_WAIT, reader).await.is_err() {
        tracing::debug!("exec client did not answer the close");
    }
}

/// Takes what the client sends until it is gone. `said` turns true at its first word that a short process may miss.
async fn read_client(
    mut source: SplitStream<Socket>,
    protocol: &Protocol,
    mut stdin: Option<pipe::Sender>,
    terminal: Option<OwnedFd>,
    said: watch::Sender<bool>,
) {
    while let Some(Ok(message)) = source.next().await {
        match protocol.read(message) {
            FromClient::Stdin(data) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            FromClient::StdinClosed => {
                stdin = None;
                said.send_replace(true);
            }
            FromClient::Resize { columns, rows } => {
                said.send_replace(true);
                if let Some(terminal) = &terminal
                    && let Err(error) = cloudeck_linux::fd::set_window_size(terminal, columns, rows)
                {
                    tracing::debug!(%error, "terminal not resized");
                }
            }
            FromClient::Other => {}
        }
    }
}

fn normal() -> CloseFrame {
    CloseFrame {
        code: CloseCode::Normal,
        reason: Utf8Bytes::default(),
    }
}

async fn copy_out(
    pipe: Option<pipe::Receiver>,
    message: impl Fn(&[u8]) -> Message,
    outgoing: mpsc::Sender<Message>,
) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; READ_BYTES];
    // A terminal's master answers EIO at its end, a pipe 0 bytes.
    while let Ok(read) = pipe.read(&mut buffer).await {
        if read == 0 || outgoing.send(message(&buffer[..read])).await.is_err() {
            return;
        }
    }
}
