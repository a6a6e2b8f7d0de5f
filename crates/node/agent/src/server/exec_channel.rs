//! The channel protocol of exec over WebSocket: `v4.channel.k8s.io` and `v5.channel.k8s.io`.
//!
//! Source: `apimachinery/pkg/util/remotecommand`, KEP-4006. The first byte of a message is the channel; in v5 `0xFF c`
//! closes channel c.

use bytes::Bytes;

pub(super) const V5: &str = "v5.channel.k8s.io";
pub(super) const V4: &str = "v4.channel.k8s.io";

pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
const STDIN: u8 = 0;
const RESIZE: u8 = 4;
const CLOSE: u8 = 0xFF;

/// What the client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromClient {
    Stdin(Bytes),
    StdinClosed,
    Resize {
        columns: u16,
        rows: u16,
    },
    /// Nothing that concerns the process.
    Other,
}

/// Reads one message.
pub(super) fn read(message: Bytes) -> FromClient {
    match message.first().copied() {
        Some(STDIN) => FromClient::Stdin(message.slice(1..)),
        Some(RESIZE) => size(&message[1..]).unwrap_or(FromClient::Other),
        Some(CLOSE) if message.get(1) == Some(&STDIN) => FromClient::StdinClosed,
        _ => FromClient::Other,
    }
}

fn size(json: &[u8]) -> Option<FromClient> {
    let tree = cloudeck_machinery::json::parse(json).ok()?;
    let side = |name: &str| tree.int_at(&[name]).and_then(|n| u16::try_from(n).ok());
    Some(FromClient::Resize {
        columns: side("Width")?,
        rows: side("Height")?,
    })
}

/// A message of `data` on a channel.
pub(super) fn frame(channel: u8, data: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    message.into()
}

/// The protocol to speak: the first of the client's offers that is known.
pub(super) fn choose<'a>(offers: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    offers
        .map(str::trim)
        .find_map(|offer| [V5, V4].into_iter().find(|known| *known == offer))
}

/// The `Status` that ends an exec.
pub(super) fn end_status(code: i32) -> String {
    if code == 0 {
        return r#"{"metadata":{},"status":"Success"}"#.to_owned();
    }
    format!(
        r#"{{"metadata":{{}},"status":"Failure","message":"command terminated with non-zero exit code: exit status {code}","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
    )
}

/// The `Status` of an exec that could not be begun or broke.
pub(super) fn failure_status(why: &str) -> Vec<u8> {
    let tree = cloudeck_machinery::value!({
        "metadata": {}, "status": "Failure", "message": (why), "reason": "InternalError", "code": 500
    });
    cloudeck_machinery::json::to_vec(&tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(
            read(Bytes::from_static(b"\0abc")),
            FromClient::Stdin(Bytes::from_static(b"abc"))
        );
        assert_eq!(read(Bytes::from_static(b"\xff\0")), FromClient::StdinClosed);
        assert_eq!(
            read(Bytes::from_static(b"\x04{\"Width\":80,\"Height\":24}")),
            FromClient::Resize {
                columns: 80,
                rows: 24
            }
        );
        for odd in [&b""[..], b"\x04{", b"\x09x", b"\xff"] {
            assert_eq!(read(Bytes::copy_from_slice(odd)), FromClient::Other);
        }
    }

    #[test]
    fn the_newest_known_protocol_that_is_offered_first_wins() {
        assert_eq!(
            choose(["v5.channel.k8s.io", " v4.channel.k8s.io"].into_iter()),
            Some(V5)
        );
        assert_eq!(choose(["channel.k8s.io"].into_iter()), None);
    }
}
