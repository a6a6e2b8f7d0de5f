//! HTTP/1.1 by hand for the load rows: one request at a time, its answer counted and not kept.
//!
//! The generator shares two cores with the server; a general client takes as much of them as the server does.

use std::pin::Pin;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::Method;
use memchr::memmem;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Larger than the head of any answer.
const MAX_HEAD: usize = 64 << 10;

/// A keep-alive connection.
pub(crate) struct Wire {
    stream: TlsStream<TcpStream>,
    /// The request, and then the head of the answer.
    text: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream,
            text: Vec::with_capacity(4 << 10),
        }
    }

    /// Sends a request and reads the answer to its end without looking at it. Its length.
    ///
    /// # Errors
    /// With what the server said, unless it is content of known length.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<usize> {
        self.text.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\nuser-agent: bench/1\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.text.extend_from_slice(head.as_bytes());
        self.text.extend_from_slice(&body);
        self.stream.write_all(&self.text).await?;
        self.stream.flush().await?;
        let (status, length) = self.head().await?;
        if (200..300).contains(&status) {
            self.skip(length).await?;
            return Ok(length);
        }
        let mut answer = Vec::new();
        while answer.len() < length {
            let there = self.fill().await?;
            let taken = there.len().min(length - answer.len());
            answer.extend_from_slice(&there[..taken]);
            self.consume(taken);
        }
        bail!("{status}: {}", String::from_utf8_lossy(&answer))
    }

    /// Reads the head of an answer: its status and the length of its body.
    async fn head(&mut self) -> Result<(u16, usize)> {
        self.text.clear();
        let end = loop {
            let known = self.text.len();
            let there = self.stream.fill_buf().await?;
            ensure!(!there.is_empty(), "the server closed the connection");
            self.text.extend_from_slice(there);
            if let Some(end) = memmem::find(&self.text, b"\r\n\r\n") {
                self.consume(end + 4 - known);
                break end;
            }
            let taken = self.text.len() - known;
            self.consume(taken);
            ensure!(self.text.len() < MAX_HEAD, "an answer's head without end");
        };
        let head = std::str::from_utf8(&self.text[..end]).context("an answer's head is not text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.context("an answer without a status")?.parse()?;
        let length = lines
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let (_, length) = length.context("an answer of unknown length")?;
        Ok((status, length.parse()?))
    }

    async fn skip(&mut self, mut length: usize) -> Result<()> {
        while length > 0 {
            let taken = self.fill().await?.len().min(length);
            self.consume(taken);
            length -= taken;
        }
        Ok(())
    }

    async fn fill(&mut self) -> Result<&[u8]> {
        let there = self.stream.fill_buf().await?;
        ensure!(!there.is_empty(), "the server closed the connection");
        Ok(there)
    }

    fn consume(&mut self, count: usize) {
        Pin::new(&mut self.stream).consume(count);
    }
}
