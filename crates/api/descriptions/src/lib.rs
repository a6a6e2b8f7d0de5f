//! What upstream says about every type and field, as `kubectl explain` shows it.
//!
//! The texts are not ours and are not in the source tree: the build script takes them from the crate `k8s-openapi`,
//! which costs most of a minute of compilation. So this is a leaf that only the feature `explain` of the product pulls
//! in, and without its own feature `full` it is empty. Knows nothing of documents or requests:
//! `cloudeck_schema::openapi` writes the texts into documents. Start reading at [`load`] and in `build.rs`.

#[cfg(test)]
mod layout;
#[cfg(test)]
mod tests;

#[cfg(feature = "full")]
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));

/// Unpacks the texts: a megabyte, which the caller drops when its documents are written.
#[cfg(feature = "full")]
pub fn load() -> cloudeck_schema::openapi::Descriptions {
    use std::io::Read as _;

    let mut text = String::new();
    flate2::read::ZlibDecoder::new(PACKED)
        .read_to_string(&mut text)
        .expect("the build script packed it");
    cloudeck_schema::openapi::Descriptions::parse(text).expect("the build script wrote it")
}
