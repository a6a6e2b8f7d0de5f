//! What a container said at its end: the termination message.
//!
//! Source: `pkg/kubelet/kuberuntime` (`getTerminationMessage`): at most 4,096 bytes of the file; where the policy says
//! so and the file is empty, the last 80 lines or 2,048 bytes of the log of a failed container.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use cloudeck_runtime::ContainerStatus;

use crate::node::Node;
use crate::pod::convert::label;

const MESSAGE_BYTES: u64 = 4096;
const LOG_BYTES: u64 = 2048;
const LOG_LINES: usize = 80;

/// The annotation that records `terminationMessagePolicy: FallbackToLogsOnError`.
pub(crate) const FALLBACK: &str = "cloudeck.dev/message-from-log";

/// The container's message; empty where there is none.
pub(crate) async fn message(_node: &Node, status: &ContainerStatus) -> String {
    let annotations = &status.config.annotations;
    let path = annotations.get(label::TERMINATION_PATH).cloned();
    let failed = status.exit.is_none_or(|exit| exit.code != 0);
    let log = (failed && annotations.contains_key(FALLBACK))
        .then(|| status.config.log_path.clone())
        .flatten();
    let read = tokio::task::spawn_blocking(move || {
        let said = path.map(|path| head(Path::new(&path))).unwrap_or_default();
        if said.is_empty() {
            log.map(|log| log_tail(&log)).unwrap_or_default()
        } else {
            said
        }
    });
    // A panic while reading a message must not lose the end of the container.
    read.await.unwrap_or_default()
}

fn head(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MESSAGE_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

fn log_tail(path: &Path) -> String {
    let tail = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        // A line of the log carries about 45 bytes beside its text.
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES * 4)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = text
            .lines()
            .filter_map(|line| line.splitn(4, ' ').nth(3))
            .collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        let mut start = last.len().saturating_sub(LOG_BYTES as usize);
        while !last.is_char_boundary(start) {
            start += 1;
        }
        Ok(last[start..].to_owned())
    };
    tail().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert_eq!(head(&path).len(), 4096);
        assert_eq!(head(&dir.path().join("none")), "");
    }

    #[test]
    fn the_last_lines_of_a_log_lose_their_stamps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(
            &path,
            "2026-01-01T00:00:00.0Z stdout F one\n2026-01-01T00:00:00.0Z stderr F two words\n",
        )
        .unwrap();
        assert_eq!(log_tail(&path), "one\ntwo words");
    }
}
