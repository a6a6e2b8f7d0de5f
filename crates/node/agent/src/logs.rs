//! Reading container logs: CRI's format on disk, `kubectl logs` on the wire.
//!
//! A line is `<RFC 3339 with nanoseconds> stdout|stderr F|P <text>`; `P` continues in the next line. Following waits for
//! the file to change (inotify), never by asking again and again.

mod follow;
mod tail;

pub(crate) use follow::LogStream;

use std::io;

/// What of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// Nanoseconds since 1970.
    pub since_ns: Option<i128>,
    /// `stdout`, `stderr`; `None` for both.
    pub stream: Option<Stream>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// One line of the file, newline included.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    stamp: &'a [u8],
    stream: Stream,
    partial: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n")?;
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let stamp = parts.next()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let partial = match parts.next()? {
            b"F" => false,
            b"P" => true,
            _ => return None,
        };
        Some(Self {
            stamp,
            stream,
            partial,
            text: parts.next().unwrap_or_default(),
        })
    }

    fn time_ns(&self) -> Option<i128> {
        let stamp = std::str::from_utf8(self.stamp).ok()?;
        stamp
            .parse::<jiff::Timestamp>()
            .ok()
            .map(jiff::Timestamp::as_nanosecond)
    }
}

/// Turns lines of the file into what the reader gets; keeps what must be kept between lines.
#[derive(Debug)]
struct Renderer {
    options: LogOptions,
    left_bytes: Option<u64>,
    in_line: bool,
    since_passed: bool,
}

impl Renderer {
    fn new(options: LogOptions) -> Self {
        let (left_bytes, since_passed) = (options.limit_bytes, options.since_ns.is_none());
        Self {
            options,
            left_bytes,
            in_line: false,
            since_passed,
        }
    }

    /// Whether the limit of bytes is used up.
    fn is_full(&self) -> bool {
        self.left_bytes == Some(0)
    }

    fn render(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = Line::parse(line) else { return };
        if self.options.stream.is_some_and(|wanted| wanted != line.stream) {
            return;
        }
        if !self.since_passed {
            let since = self.options.since_ns.unwrap_or(i128::MIN);
            if line.time_ns().is_some_and(|at| at < since) {
                return;
            }
            self.since_passed = true;
        }
        let start = out.len();
        if self.options.timestamps && !self.in_line {
            out.extend_from_slice(line.stamp);
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.in_line = line.partial;
        if let Some(left) = &mut self.left_bytes {
            let made = (out.len() - start) as u64;
            let kept = made.min(*left);
            out.truncate(start + kept as usize);
            *left -= kept;
        }
    }
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenLogError {
    #[error("open the log {path}")]
    Open { path: String, source: io::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(options: LogOptions, lines: &[&str]) -> String {
        let mut renderer = Renderer::new(options);
        let mut out = Vec::new();
        for line in lines {
            renderer.render(line.as_bytes(), &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    const LINES: [&str; 3] = [
        "2026-01-01T00:00:00.5Z stdout P par\n",
        "2026-01-01T00:00:00.6Z stdout F tial\n",
        "2026-01-01T00:00:02Z stderr F two words\n",
    ];

    #[test]
    fn partial_lines_are_joined_and_streams_chosen() {
        assert_eq!(render(LogOptions::default(), &LINES), "partial\ntwo words\n");
        let only = LogOptions {
            stream: Some(Stream::Stderr),
            ..LogOptions::default()
        };
        assert_eq!(render(only, &LINES), "two words\n");
    }

    #[test]
    fn stamps_since_and_limits_hold() {
        let stamped = LogOptions {
            timestamps: true,
            ..LogOptions::default()
        };
        assert_eq!(
            render(stamped, &LINES),
            "2026-01-01T00:00:00.5Z partial\n2026-01-01T00:00:02Z two words\n"
        );
        let since = "2026-01-01T00:00:01Z"
            .parse::<jiff::Timestamp>()
            .unwrap()
            .as_nanosecond();
        assert_eq!(
            render(
                LogOptions {
                    since_ns: Some(since),
                    ..LogOptions::default()
                },
                &LINES
            ),
            "two words\n"
        );
        assert_eq!(
            render(
                LogOptions {
                    limit_bytes: Some(4),
                    ..LogOptions::default()
                },
                &LINES
            ),
            "part"
        );
    }

    #[test]
    fn lines_of_another_form_are_left_out() {
        assert_eq!(render(LogOptions::default(), &["garbage\n", "a b c d\n", ""]), "");
    }
}
