use cloudeck_machinery::{json, value};
use proptest::prelude::*;

use super::*;
use crate::arbitrary;

fn check(document: &str, patch: &str, result: &str) {
    let mut tree = json::parse(document.as_bytes()).unwrap();
    apply(&mut tree, json::parse(patch.as_bytes()).unwrap()).unwrap();
    assert_eq!(tree.to_string(), result, "{document} + {patch}");
}

#[test]
fn the_examples_of_the_standard_hold() {
    check(r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#);
    check(r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#);
    check(r#"{"a":"b"}"#, r#"{"a":null}"#, r"{}");
    check(r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#);
    check(r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#);
    check(
        r#"{"a":{"b":"c"}}"#,
        r#"{"a":{"b":"d","c":null}}"#,
        r#"{"a":{"b":"d"}}"#,
    );
    check(r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#);
    check(r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#);
    check(r"{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#);
}

#[test]
fn much_comes_and_goes_in_no_time() {
    let many = |first: char, value: &Value| -> Value {
        let members = (0..60_000).map(|n| (format!("{first}{n:06}"), value.clone()));
        Value::Object(members.collect())
    };
    let mut tree = many('z', &1.into());
    let begun = std::time::Instant::now();
    apply(&mut tree, many('a', &2.into())).unwrap();
    apply(&mut tree, many('z', &Value::Null)).unwrap();
    assert!(tree == many('a', &2.into()));
    // One by one, each would move all members behind it.
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}

#[test]
fn nulls_inside_new_arrays_go_as_upstream_drops_them() {
    check(
        "{}",
        r#"{"a":[null,{"b":null,"c":1}]}"#,
        r#"{"a":[null,{"c":1}]}"#,
    );
}

#[test]
fn only_objects_are_patches() {
    for patch in [value!([]), value!(1), Value::Null] {
        assert_eq!(apply(&mut Value::object(), patch), Err(BadMergePatch));
    }
}

proptest! {
    #[test]
    fn a_patch_applied_twice_changes_nothing_more(document in arbitrary::object(), patch in arbitrary::object()) {
        let mut once = document;
        apply(&mut once, patch.clone()).unwrap();
        let mut twice = once.clone();
        apply(&mut twice, patch).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_empty_patch_is_the_identity(document in arbitrary::object()) {
        let mut patched = document.clone();
        apply(&mut patched, Value::object()).unwrap();
        prop_assert_eq!(patched, document);
    }
}
