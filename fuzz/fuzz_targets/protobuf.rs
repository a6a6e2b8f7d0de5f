//! Protobuf bodies, as newer clients send them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = cloudeck_schema::protobuf::decode_envelope(bytes);
    for (group, version, kind) in [("", "v1", "Pod"), ("apps", "v1", "Deployment"), ("", "v1", "Event")] {
        if let Some(ty) = cloudeck_schema::type_of_kind(group, version, kind) {
            let _ = cloudeck_schema::protobuf::decode(ty, bytes);
        }
    }
});
