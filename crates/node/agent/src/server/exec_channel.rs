//! The channel protocols of exec over WebSocket.
//!
//! Source: `apimachinery/pkg/util/remotecommand`, `streaming/pkg/httpstream/wsstream`, KEP-4006. The first byte of a
//! message is the channel; in v5 `0xFF c` closes channel c. The base64 forms send text: a digit for the channel, then
//! the data. From v4 on a `Status` on the error channel ends an exec; before, only a failure is told there, in words.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
const STDIN: u8 = 0;
const RESIZE: u8 = 4;
const CLOSE: u8 = 0xFF;

/// How client and server understand each other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    /// Empty for a client that offers none.
    pub(super) name: &'static str,
    base64: bool,
    tells_status: bool,
}

const PROTOCOLS: [Protocol; 6] = [
    Protocol::new("v5.channel.k8s.io", false, true),
    Protocol::new("v4.channel.k8s.io", false, true),
    Protocol::new("v4.base64.channel.k8s.io", true, true),
    Protocol::new("channel.k8s.io", false, false),
    Protocol::new("base64.channel.k8s.io", true, false),
    Protocol::new("", false, false),
];

impl Protocol {
    const fn new(name: &'static str, base64: bool, tells_status: bool) -> Self {
        Self {
            name,
            base64,
            tells_status,
        }
    }

    /// The first of the client's offers that is known.
    pub(super) fn choose<'a>(offers: impl Iterator<Item = &'a str>) -> Option<&'static Self> {
        let mut offers = offers.map(str::trim).peekable();
        if offers.peek().is_none() {
            return PROTOCOLS.iter().find(|known| known.name.is_empty());
        }
        offers.find_map(|offer| PROTOCOLS.iter().find(|known| known.name == offer))
    }

    /// Reads one message.
    pub(super) fn read(&self, message: Message) -> FromClient {
        match message {
            Message::Binary(data) => self.read_bytes(data),
            Message::Text(text) => self.read_bytes(text.into()),
            _ => FromClient::Other,
        }
    }

    fn read_bytes(&self, data: Bytes) -> FromClient {
        if !self.base64 {
            return read(data);
        }
        let Some((digit, encoded)) = data.split_first() else {
            return FromClient::Other;
        };
        let decoded = STANDARD.decode(encoded.trim_ascii_end());
        decoded.map_or(FromClient::Other, |data| {
            read(framed(digit.wrapping_sub(b'0'), &data))
        })
    }

    /// A message of `data` on a channel.
    pub(super) fn message(&self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let text = format!("{channel}{}", STANDARD.encode(data));
            Message::Text(text.into())
        } else {
            Message::Binary(framed(channel, data))
        }
    }

    /// The message that tells how the process ended, where there is something to tell.
    pub(super) fn end(&self, code: i32) -> Option<Message> {
        let said = match (self.tells_status, code) {
            (true, _) => end_status(code),
            (false, 0) => return None,
            (false, _) => format!("command terminated with non-zero exit code: exit status {code}"),
        };
        Some(self.message(ERROR, said.as_bytes()))
    }

    /// The message about an exec that could not be begun or broke.
    pub(super) fn failure(&self, why: &str) -> Message {
        if self.tells_status {
            self.message(ERROR, &failure_status(why))
        } else {
            self.message(ERROR, why.as_bytes())
        }
    }
}

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

fn read(message: Bytes) -> FromClient {
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

fn framed(channel: u8, data: &[u8]) -> Bytes {
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    message.into()
}

/// The `Status` that ends an exec.
fn end_status(code: i32) -> String {
    if code == 0 {
        return r#"{"metadata":{},"status":"Success"}"#.to_owned();
    }
    format!(
        r#"{{"metadata":{{}},"status":"Failure","message":"command terminated with non-zero exit code: exit status {code}","reason":"NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
    )
}

/// The `Status` of an exec that could not be begun or broke.
fn failure_status(why: &str) -> Vec<u8> {
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

    fn chosen(offers: &[&str]) -> Option<&'static str> {
        Protocol::choose(offers.iter().copied()).map(|protocol| protocol.name)
    }

    #[test]
    fn the_first_known_protocol_that_is_offered_wins() {
        assert_eq!(
            chosen(&["v9.channel.k8s.io", " v5.channel.k8s.io", "v4.channel.k8s.io"]),
            Some("v5.channel.k8s.io")
        );
        assert_eq!(chosen(&["channel.k8s.io"]), Some("channel.k8s.io"));
        assert_eq!(chosen(&[]), Some(""));
        assert_eq!(chosen(&["SPDY/3.1"]), None);
    }

    #[test]
    fn a_protocol_before_v4_tells_failures_only_and_in_words() {
        let old = Protocol::choose(["channel.k8s.io"].into_iter()).unwrap();
        assert_eq!(old.end(0), None);
        assert_eq!(
            old.end(7),
            Some(Message::Binary(Bytes::from_static(
                b"\x03command terminated with non-zero exit code: exit status 7"
            )))
        );
        assert_eq!(old.failure("no"), Message::Binary(Bytes::from_static(b"\x03no")));
        let new = Protocol::choose(["v4.channel.k8s.io"].into_iter()).unwrap();
        assert_eq!(
            new.end(0),
            Some(Message::Binary(Bytes::from_static(
                b"\x03{\"metadata\":{},\"status\":\"Success\"}"
            )))
        );
    }

    #[test]
    fn base64_protocols_speak_text_with_a_digit_for_the_channel() {
        let text = Protocol::choose(["base64.channel.k8s.io"].into_iter()).unwrap();
        assert_eq!(text.message(STDOUT, b"\n"), Message::Text("1Cg==".into()));
        assert_eq!(
            text.read(Message::Text("0Zm9vCg==".into())),
            FromClient::Stdin(Bytes::from_static(b"foo\n"))
        );
        assert_eq!(text.read(Message::Text("0?".into())), FromClient::Other);
    }
}
