//! YAML, one document and many: no input may do more than fail.
#![no_main]

use cloudeck_machinery::yaml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = yaml::parse_all(bytes);
    if let Ok(tree) = yaml::parse(bytes) {
        let text = yaml::write(&tree);
        let again = yaml::parse(text.as_bytes()).expect("what is written can be read");
        assert_eq!(again, tree);
    }
});
