//! JSON: what is written is read and written as the same again.
#![no_main]

use cloudeck_machinery::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tree) = json::parse(bytes) else { return };
    let again = json::parse(&json::to_vec(&tree)).expect("what is written can be read");
    // Not the first text: as in Go, a float that is a negative zero becomes an integer on its way.
    let text = json::to_vec(&again);
    assert_eq!(json::parse(&text).as_ref(), Ok(&again));
});
