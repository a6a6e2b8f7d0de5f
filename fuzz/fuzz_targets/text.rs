//! Small languages: selectors, quantities, times, durations, references, ranges, resolver files.
#![no_main]

use cloudeck_machinery::{FieldSelector, LabelSelector, MicroTime, Time, quantity};
use cloudeck_net::resolve::{Hosts, ResolvConf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = LabelSelector::parse(text);
    let _ = FieldSelector::parse(text);
    if let Ok(canonical) = quantity::canonical(text) {
        assert_eq!(quantity::canonical(&canonical).as_ref(), Ok(&canonical));
    }
    if let Ok(time) = Time::parse(text) {
        assert_eq!(Time::parse(&time.to_string()), Ok(time));
    }
    let _ = MicroTime::parse(text);
    let _ = cloudeck_machinery::time::duration::parse_go(text);
    let _ = text.parse::<cloudeck_oci::Reference>();
    let _ = text.parse::<cloudeck_net::Ipv4Cidr>();
    let _ = ResolvConf::parse(text);
    let _ = Hosts::parse(text);
});
