//! Further processes in containers.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::Runtime;
use super::containers::unexpected;
use super::link::Link;
use crate::config::{ExecRequest, Stdio};
use crate::error::RequestError;
use crate::protocol::{ExecSpec, Operation, Outcome};
use crate::status::{ContainerId, SandboxId, SyncOutput};

/// As much of each output of a synchronous exec is kept; the rest is read and dropped.
const MAX_OUTPUT: usize = 1 << 20;

/// How long the outputs of a process that has ended may stay open: something that it has left behind may hold them.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// A process in a container.
pub struct ExecHandle {
    /// In the machine's pid namespace.
    pub pid: i32,
    /// The master of its terminal, if it was asked for with one.
    pub terminal: Option<OwnedFd>,
    exec: u64,
    sandbox: SandboxId,
    link: Link,
    end: oneshot::Receiver<i32>,
}

impl Runtime {
    /// Runs a further process in a running container. Returns when it runs.
    pub async fn exec(
        &self,
        container: &ContainerId,
        request: ExecRequest,
    ) -> Result<ExecHandle, RequestError> {
        let sandbox = self.inner.sandbox_of(container)?;
        let id = sandbox.spec.id.clone();
        let link = sandbox.link().ok_or_else(|| RequestError::ShimGone(id.clone()))?;
        let exec = self.inner.next_exec.fetch_add(1, Ordering::Relaxed);
        let (streams, fds, terminal) = match request.stdio {
            Stdio::Terminal { columns, rows } => ([false; 3], Vec::new(), Some((columns, rows))),
            Stdio::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                let given = [stdin, stdout, stderr];
                (
                    given.each_ref().map(Option::is_some),
                    given.into_iter().flatten().collect(),
                    None,
                )
            }
        };
        let spec = ExecSpec {
            exec,
            container: container.clone(),
            argv: request.argv,
            env: request.env,
            cwd: request.cwd,
            user: request.user,
            terminal,
            streams,
        };
        let end = link.expect_exec(exec);
        let gone = |_| RequestError::ShimGone(id.clone());
        match link.ask_with(Operation::Exec(spec), fds).await.map_err(gone) {
            Ok((Outcome::Pid { pid, .. }, mut fds)) => Ok(ExecHandle {
                pid,
                terminal: fds.pop(),
                exec,
                sandbox: id,
                link,
                end,
            }),
            other => {
                link.forget_exec(exec);
                Err(unexpected(other.map(|(outcome, _)| outcome)))
            }
        }
    }

    /// Runs a further process and waits for its end; kills it after `limit`.
    ///
    /// # Errors
    /// [`RequestError::Timeout`] when it was killed.
    pub async fn exec_sync(
        &self,
        container: &ContainerId,
        argv: Vec<String>,
        limit: Duration,
    ) -> Result<SyncOutput, RequestError> {
        let pair = || pipe::pipe().map_err(RequestError::io("make a pipe"));
        let ((out_end, out), (err_end, err)) = (pair()?, pair()?);
        let end = |end: pipe::Sender| end.into_blocking_fd().map_err(RequestError::io("make a pipe"));
        let stdio = Stdio::Pipes {
            stdin: None,
            stdout: Some(end(out_end)?),
            stderr: Some(end(err_end)?),
        };
        let request = ExecRequest {
            argv,
            env: Vec::new(),
            cwd: None,
            user: None,
            stdio,
        };
        let mut handle = self.exec(container, request).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let result = {
            let outputs = async { tokio::join!(collect(out, &mut stdout), collect(err, &mut stderr)) };
            tokio::pin!(outputs);
            let mut open = true;
            let end = handle.wait();
            tokio::pin!(end);
            let waiting = async {
                loop {
                    tokio::select! {
                        code = &mut end => return code,
                        _ = &mut outputs, if open => open = false,
                    }
                }
            };
            let code = tokio::time::timeout(limit, waiting).await;
            if code.is_ok() && open {
                let _ = tokio::time::timeout(DRAIN_LIMIT, outputs).await;
            }
            code
        };
        let Ok(code) = result else {
            let _ = handle.kill(libc::SIGKILL).await;
            return Err(RequestError::Timeout(limit));
        };
        Ok(SyncOutput {
            stdout,
            stderr,
            code: code?,
        })
    }
}

/// Reads to the end, keeping the beginning.
async fn collect(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) {
    let mut buffer = vec![0; 4096];
    while let Ok(got @ 1..) = from.read(&mut buffer).await {
        let room = MAX_OUTPUT.saturating_sub(into.len());
        into.extend_from_slice(&buffer[..got.min(room)]);
    }
}

impl ExecHandle {
    /// Waits for its end. 128 + n after signal n.
    pub async fn wait(&mut self) -> Result<i32, RequestError> {
        (&mut self.end)
            .await
            .map_err(|_| RequestError::ShimGone(self.sandbox.clone()))
    }

    pub async fn kill(&self, signal: i32) -> Result<(), RequestError> {
        let gone = |_| RequestError::ShimGone(self.sandbox.clone());
        let answer = self
            .link
            .ask(Operation::KillExec {
                exec: self.exec,
                signal,
            })
            .await
            .map_err(gone);
        match answer {
            Ok((Outcome::Done, _)) => Ok(()),
            other => Err(unexpected(other.map(|(outcome, _)| outcome))),
        }
    }

    /// Tells its terminal the size of the window.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), RequestError> {
        let terminal = self.terminal.as_ref();
        let terminal =
            terminal.ok_or_else(|| RequestError::State("the process has no terminal".to_owned()))?;
        cloudeck_linux::fd::set_window_size(terminal, columns, rows)
            .map_err(RequestError::io("set the size of the terminal"))
    }
}
