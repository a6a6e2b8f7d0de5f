//! What registries answer: manifests, indexes, configurations; and files with credentials.
#![no_main]

use cloudeck_image::AuthFile;
use cloudeck_oci::Document;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Document::parse(bytes, None);
    let _ = Document::parse(bytes, Some("application/vnd.oci.image.manifest.v1+json"));
    let _ = AuthFile::parse(bytes);
});
