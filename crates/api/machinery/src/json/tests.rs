use super::*;
use crate::value::Value;

fn round(text: &str) -> String {
    parse(text.as_bytes()).unwrap().to_string()
}

#[test]
fn values_round_trip_in_compact_sorted_form() {
    assert_eq!(
        round(r#" {"b": [1, -2.5, 1e3], "a": {"x": null, "y": "é\u00e9\n"}} "#),
        r#"{"a":{"x":null,"y":"éé\n"},"b":[1,-2.5,1000]}"#
    );
}

#[test]
fn integers_stay_integers_and_large_ones_become_floats() {
    assert_eq!(parse(b"9223372036854775807").unwrap(), Value::Int(i64::MAX));
    assert_eq!(
        parse(b"9223372036854775808").unwrap(),
        Value::Float(9.223_372_036_854_776e18)
    );
    assert_eq!(parse(b"1.0").unwrap(), Value::Float(1.0));
}

#[test]
fn floats_print_as_go_prints_them() {
    for (number, text) in [
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
        (0.000_001, "0.000001"),
        (123.456, "123.456"),
        (1e20, "100000000000000000000"),
    ] {
        assert_eq!(Value::Float(number).to_string(), text);
    }
}

#[test]
fn strings_are_escaped_as_go_escapes_them() {
    assert_eq!(
        Value::from("<a&b>\u{2028}\u{1}\"\\€").to_string(),
        r#""\u003ca\u0026b\u003e\u2028\u0001\"\\€""#
    );
}

#[test]
fn duplicates_are_reported_with_their_paths() {
    let mut duplicates = Vec::new();
    let tree = parse_reporting(br#"{"a":1,"spec":{"c":[{"n":1,"n":2}]},"a":3}"#, &mut duplicates).unwrap();
    assert_eq!(duplicates, ["spec.c[0].n", "a"]);
    assert_eq!(tree.int_at(&["a"]), Some(3));
}

#[test]
fn broken_texts_are_refused() {
    for text in [
        "",
        "{",
        "[1,]",
        "{\"a\" 1}",
        "tru",
        "01",
        "1.",
        "\"\\x\"",
        "\"a",
        "{}x",
        "\"\n\"",
        "nul",
        "-",
        "1e",
        "1e999",
    ] {
        assert!(parse(text.as_bytes()).is_err(), "{text:?}");
    }
    assert!(parse(b"\"\xff\"").is_err());
}

#[test]
fn nesting_has_a_limit() {
    let deep = "[".repeat(MAX_DEPTH + 1);
    assert!(matches!(parse(deep.as_bytes()), Err(JsonError::TooDeep { .. })));
}

#[test]
fn surrogates_pair_or_become_replacement_characters() {
    assert_eq!(parse(br#""\ud83d\ude00""#).unwrap(), Value::from("😀"));
    assert_eq!(parse(br#""\ud83dx""#).unwrap(), Value::from("\u{fffd}x"));
}
