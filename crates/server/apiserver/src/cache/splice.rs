//! Puts the resourceVersion into serialised objects.
//!
//! The revision of a write is known only at its commit, so stored values hold none; it is spliced in once, when the
//! cached object is built. It stands where Go's encoder puts it, right after `metadata.uid`. Whatever may precede it
//! (kind, apiVersion, name, generateName, namespace) cannot hold the bytes searched for, because quotes inside JSON
//! strings are escaped.

use bytes::Bytes;
use cloudeck_machinery::Object;
use memchr::memmem;

const UID: &[u8] = b"\"uid\":\"";
const METADATA: &[u8] = b"\"metadata\":{";
const REVISION: &[u8] = b"\"resourceVersion\":\"";

/// `stored` with `metadata.resourceVersion` added; `None` if it has no metadata.
pub(crate) fn with_revision(stored: &[u8], revision: u64) -> Option<Bytes> {
    let mut out = Vec::with_capacity(stored.len() + 48);
    let (at, after_uid) = match memmem::find(stored, UID) {
        Some(start) => {
            let value = start + UID.len();
            (value + memchr::memchr(b'"', &stored[value..])? + 1, true)
        }
        None => (memmem::find(stored, METADATA)? + METADATA.len(), false),
    };
    out.extend_from_slice(&stored[..at]);
    if after_uid {
        out.push(b',');
    }
    out.extend_from_slice(REVISION);
    push_decimal(&mut out, revision);
    out.push(b'"');
    if !after_uid && stored.get(at) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(&stored[at..]);
    Some(out.into())
}

/// `json`, which holds a resourceVersion, with another one.
fn replace_revision(json: &[u8], revision: u64) -> Option<Bytes> {
    let start = memmem::find(json, REVISION)? + REVISION.len();
    let end = start + memchr::memchr(b'"', &json[start..])?;
    let mut out = Vec::with_capacity(json.len() + 8);
    out.extend_from_slice(&json[..start]);
    push_decimal(&mut out, revision);
    out.extend_from_slice(&json[end..]);
    Some(out.into())
}

/// The same object as of another revision.
///
/// # Panics
/// When the object's bytes hold no resourceVersion, which [`with_revision`] rules out.
pub(crate) fn under_revision(object: &Object, revision: u64) -> Object {
    let json = replace_revision(&object.json, revision).expect("cached objects hold their resourceVersion");
    object.with_json(json, revision)
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    use std::io::Write as _;
    write!(out, "{number}").expect("writing to a vector cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_stands_after_the_uid_and_can_be_replaced() {
        let stored =
            br#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","uid":"u","labels":{"uid":"x"}}}"#;
        let json = with_revision(stored, 41).unwrap();
        let want = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","uid":"u","resourceVersion":"41","labels":{"uid":"x"}}}"#;
        assert_eq!(json, want.as_bytes());
        assert_eq!(
            replace_revision(&json, 1042).unwrap(),
            want.replace("41", "1042").as_bytes()
        );
    }

    #[test]
    fn an_object_without_a_uid_gets_it_first() {
        assert_eq!(
            with_revision(br#"{"metadata":{}}"#, 1).unwrap(),
            &br#"{"metadata":{"resourceVersion":"1"}}"#[..]
        );
        let named = with_revision(br#"{"metadata":{"name":"a"}}"#, 1).unwrap();
        assert_eq!(named, &br#"{"metadata":{"resourceVersion":"1","name":"a"}}"#[..]);
        assert_eq!(with_revision(b"{}", 1), None);
    }
}
