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
    let deep = |levels| ["[".repeat(levels), "]".repeat(levels)].concat();
    let sent = |text: &str| parse_reporting(text.as_bytes(), &mut Vec::new());
    assert!(
        sent(&deep(MAX_DEPTH + 1)).is_ok(),
        "an empty array holds nothing deeper"
    );
    assert!(matches!(
        sent(&deep(MAX_DEPTH + 2)),
        Err(JsonError::TooDeep { limit: MAX_DEPTH, .. })
    ));
    assert!(parse(deep(MAX_READ_DEPTH + 1).as_bytes()).is_ok());
    assert!(matches!(
        parse(deep(MAX_READ_DEPTH + 2).as_bytes()),
        Err(JsonError::TooDeep {
            limit: MAX_READ_DEPTH,
            ..
        })
    ));
    assert!(parse_within(deep(8).as_bytes(), 7).is_ok());
    assert!(parse_within(deep(9).as_bytes(), 7).is_err());
}

#[test]
fn the_deepest_trees_take_less_than_half_of_a_workers_stack() {
    let work = || {
        let half = MAX_READ_DEPTH / 2;
        let text = [r#"{"a":["#.repeat(half), "1".into(), "]}".repeat(half)].concat();
        let tree = parse(text.as_bytes()).unwrap();
        let copy = tree.clone();
        assert!(
            tree == copy && !tree.is_deeper_than(MAX_READ_DEPTH) && tree.is_deeper_than(MAX_READ_DEPTH - 1)
        );
        assert_eq!(tree.to_string(), text);
    };
    let worker = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(work)
        .unwrap();
    worker.join().unwrap();
}

#[test]
fn surrogates_pair_or_become_replacement_characters() {
    assert_eq!(parse(br#""\ud83d\ude00""#).unwrap(), Value::from("😀"));
    assert_eq!(parse(br#""\ud83dx""#).unwrap(), Value::from("\u{fffd}x"));
}
