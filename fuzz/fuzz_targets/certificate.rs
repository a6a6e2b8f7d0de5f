//! Certificate signing requests.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = cloudeck_pki::SigningRequest::from_pem(bytes);
});
