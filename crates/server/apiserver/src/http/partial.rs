//! `PartialObjectMetadata`: the metadata's own bytes in another shell.

use std::sync::Arc;

use bytes::Bytes;
use cloudeck_client::ListMeta;
use cloudeck_machinery::Object;
use memchr::memmem;

use super::answer::list_metadata;

const METADATA: &[u8] = b"\"metadata\":";

pub(crate) fn object(json: &[u8], version: &str) -> Bytes {
    let mut out = Vec::with_capacity(512);
    write(json, version, &mut out);
    out.into()
}

pub(crate) fn list(items: &[Arc<Object>], meta: &ListMeta, version: &str) -> Bytes {
    let mut out = Vec::with_capacity(256 + items.len() * 512);
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/");
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    out.extend_from_slice(&list_metadata(meta));
    out.extend_from_slice(b",\"items\":[");
    for (at, object) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"metadata\":");
        out.extend_from_slice(metadata(&object.json));
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out.into()
}

pub(crate) fn write(json: &[u8], version: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/");
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(b"\",\"metadata\":");
    out.extend_from_slice(metadata(json));
    out.push(b'}');
}

/// The bytes of the first `metadata` of a serialised object; `{}` if it has none.
pub(crate) fn metadata(json: &[u8]) -> &[u8] {
    let Some(start) = memmem::find(json, METADATA).map(|at| at + METADATA.len()) else {
        return b"{}";
    };
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in json[start..].iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    return &json[start..=start + at];
                }
            }
            _ => {}
        }
    }
    b"{}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_ends_at_its_own_brace() {
        let json = br#"{"kind":"A","metadata":{"a":"}\"{","b":{}},"spec":{}}"#;
        assert_eq!(metadata(json), br#"{"a":"}\"{","b":{}}"#);
        assert_eq!(metadata(b"{}"), b"{}");
    }
}
