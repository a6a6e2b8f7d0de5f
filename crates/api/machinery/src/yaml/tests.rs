use proptest::prelude::*;

use super::*;
use crate::value;

fn reads(text: &str, json: &str) {
    assert_eq!(
        parse(text.as_bytes()).map(|tree| tree.to_string()).as_deref(),
        Ok(json),
        "{text}"
    );
}

fn refuses(text: &str, message: &str) {
    assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message, "{text}");
}

#[test]
fn scalars_resolve_by_yaml_1_1_as_upstream() {
    reads(
        "[yes, no, on, off, y, n, true, False]",
        "[true,false,true,false,true,false,true,false]",
    );
    reads("[null, ~, Null, '', \"\"]", r#"[null,null,null,"",""]"#);
    reads(
        "[1, 0777, 0x1F, 0b11, 0o17, 1_000, -5, +5, 08]",
        "[1,511,31,3,15,1000,-5,5,8]",
    );
    reads(
        "[1.5, .5, 1., 1e3, 1.0, -0.5, 18446744073709551615]",
        "[1.5,0.5,1,1000,1,-0.5,18446744073709552000]",
    );
    reads(
        "['yes', \"1\", !!str 1, 1.2.3, 10.0.0.0/8, 0x, 1:30]",
        r#"["yes","1","1","1.2.3","10.0.0.0/8","0x","1:30"]"#,
    );
    reads("a: 2001-01-01T00:00:00Z", r#"{"a":"2001-01-01T00:00:00Z"}"#);
    reads("[!!float 1, !!int 2, !!binary aGk=]", r#"[1,2,"hi"]"#);
    refuses("a: .inf", "yaml: json: unsupported value: inf");
    refuses("a: !!int x", "yaml: cannot decode !!str `x` as a !!int");
}

#[test]
fn maps_lists_and_block_texts() {
    reads(
        "a:\n- b\n- c: 1\n  d: |\n    x\n    y\n",
        r#"{"a":["b",{"c":1,"d":"x\ny\n"}]}"#,
    );
    reads("a: >-\n  x\n  y\nb: 'it''s'", r#"{"a":"x y","b":"it's"}"#);
    reads("1: a\ntrue: b\n1.5: c", r#"{"1":"a","1.5":"c","true":"b"}"#);
    reads("", "null");
    reads("# only a comment\n", "null");
    refuses("? [a]\n: b", "yaml: invalid map key: [\"a\"]");
    refuses("~: b", "yaml: unsupported map key of type: null");
}

#[test]
fn streams_hold_documents_and_empty_ones_are_left_out() {
    let all = parse_all(b"---\na: 1\n---\n# nothing\n---\nb: 2\n").unwrap();
    assert_eq!(all, [value!({"a": 1}), value!({"b": 2})]);
    reads("a: 1\n---\nb: 2\n", r#"{"a":1}"#);
}

#[test]
fn anchors_and_merge_keys_are_followed_within_a_budget() {
    reads("a: &x {b: 1}\nc: *x", r#"{"a":{"b":1},"c":{"b":1}}"#);
    reads(
        "x: &x {a: 1, b: 1}\nz:\n  <<: *x\n  b: 2",
        r#"{"x":{"a":1,"b":1},"z":{"a":1,"b":2}}"#,
    );
    reads(
        "- &p {a: 1}\n- &q {a: 2, b: 2}\n- <<: [*p, *q]",
        r#"[{"a":1},{"a":2,"b":2},{"a":1,"b":2}]"#,
    );
    refuses(
        "a: {<<: 1}",
        "yaml: map merge requires map or sequence of maps as the value",
    );
    let line = |i: usize| {
        format!(
            "a{i}: &a{i} [{}]\n",
            vec![format!("*a{}", i.wrapping_sub(1)); 10].join(",")
        )
    };
    let lines: String = (1..10).map(line).collect();
    let bomb = format!("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n{lines}");
    assert_eq!(parse(bomb.as_bytes()), Err(YamlError::ExcessiveAliasing));
    assert!(parse(b"a: &a [*a]").is_err());
    assert_eq!(parse("[".repeat(220).as_bytes()), Err(YamlError::TooDeep));
}

#[test]
fn duplicate_keys_are_told_with_their_lines() {
    let mut told = Vec::new();
    let tree = parse_reporting(b"a: 1\nb:\n  c: 1\n  c: 2\na: 2\n", &mut told).unwrap();
    assert_eq!(tree, value!({"a": 2, "b": {"c": 2}}));
    assert_eq!(
        told,
        [
            r#"line 4: key "c" already set in map"#,
            r#"line 5: key "a" already set in map"#
        ]
    );
    told.clear();
    parse_reporting(br#"{"a":1,"a":2}"#, &mut told).unwrap();
    assert_eq!(told, [r#"line 1: key "a" already set in map"#]);
}

fn writes(tree: &Value, text: &str) {
    assert_eq!(write(tree), text);
}

#[test]
fn trees_are_written_as_kubectl_writes_them() {
    let tree = value!({
        "metadata": {"name": "a", "labels": {}, "annotations": {"x": "true", "y": "1", "z": "a: b"}},
        "list": [1, {"b": "c", "d": [[1]]}, []],
        "text": "a\nb\n", "open": "a\nb", "empty": "", "null": null
    });
    writes(
        &tree,
        "empty: \"\"\nlist:\n- 1\n- b: c\n  d:\n  - - 1\n- []\nmetadata:\n  annotations:\n    x: \"true\"\n    \"y\": \"1\"\n    z: 'a: b'\n  labels: {}\n  name: a\n\"null\": null\nopen: |-\n  a\n  b\ntext: |\n  a\n  b\n",
    );
    writes(
        &value!({"a": "2001-01-01T00:00:00Z", "b": "10:30", "c": "\t", "d": "é", "e": "- x", "f": "x #y"}),
        "a: \"2001-01-01T00:00:00Z\"\nb: \"10:30\"\nc: \"\\t\"\nd: é\ne: '- x'\nf: 'x #y'\n",
    );
    writes(
        &value!({"a10": 1, "a2": 2, "a-b": 3, "ab": 4}),
        "a-b: 3\na2: 2\na10: 1\nab: 4\n",
    );
}

#[test]
fn what_would_mean_something_else_is_quoted() {
    writes(
        &value!({"<<": "=", "~": "0x1", "-": "?"}),
        "'-': '?'\n\"<<\": =\n\"~\": \"0x1\"\n",
    );
}

#[test]
fn a_document_that_is_one_text_of_many_lines_reads_back() {
    for text in ["a\nb", "\n\n2", " a\nb\n\n"] {
        let tree = Value::from(text);
        assert_eq!(parse(write(&tree).as_bytes()).unwrap(), tree, "{text:?}");
    }
}

#[test]
fn long_texts_are_folded() {
    let words = "word ".repeat(30);
    let text = write(&value!({"a": (words.trim_end())}));
    assert!(text.lines().all(|line| line.len() < 90), "{text}");
    assert_eq!(parse(text.as_bytes()).unwrap(), value!({"a": (words.trim_end())}));
}

#[test]
fn aliases_nest_no_deeper_than_what_they_stand_for() {
    // Each line holds the one before it a hundred levels down.
    let nest = |inner: &str| format!("{}{inner}{}", "[".repeat(100), "]".repeat(100));
    let text = |last: &str| format!("a: &a {}\nb: &b {}\nc: {last}\n", nest("1"), nest("*a"));
    assert_eq!(parse(text("*b").as_bytes()), Err(YamlError::TooDeep));
    let text = format!(
        "a: &a {}\nb: &b {}\n",
        nest("1"),
        "[".repeat(99) + "*a" + &"]".repeat(99)
    );
    let tree = parse(text.as_bytes()).unwrap();
    assert!(tree.is_deeper_than(json::MAX_DEPTH - 1) && !tree.is_deeper_than(json::MAX_DEPTH));
}

#[test]
fn anchors_above_anchors_copy_no_more_than_aliases_may() {
    let many = vec!["1"; 10_000].join(",");
    let nested: Vec<String> = (0..20).map(|n| format!("&a{n} [")).collect();
    let text = format!("{}{many}{}", nested.concat(), "]".repeat(20));
    assert_eq!(parse(text.as_bytes()), Err(YamlError::ExcessiveAliasing));
    assert!(parse(format!("&a [{many}]").as_bytes()).is_ok());
}

#[test]
fn many_keys_in_the_wrong_order_take_no_time() {
    let lines: Vec<String> = (0..150_000).rev().map(|n| format!("k{n:06}: 1")).collect();
    let text = lines.join("\n");
    // One by one, each key would move all that are there: a minute of copying.
    let begun = std::time::Instant::now();
    let tree = parse(text.as_bytes()).unwrap();
    assert_eq!(tree.as_object().map(crate::Map::len), Some(150_000));
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

fn tree() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~]{0,12}",
        "[a:#'\"\n \t-]{0,8}",
        "(word |é){10,40}",
        "\\PC{0,6}",
        "[0-9:._e+-]{0,8}",
        any::<String>()
    ];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1000i32..1000).prop_map(|n| Value::Float(f64::from(n) + 0.25)),
        text.clone().prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 4, move |inner| {
        let key = prop_oneof!["[a-z]{1,5}", "[ -~]{0,6}", "[0-9]{1,3}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((key, inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(tree in tree()) {
        let text = write(&tree);
        prop_assert_eq!(parse(text.as_bytes()), Ok(tree), "{}", text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse(&bytes);
        let _ = parse_all(&bytes);
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(text in "[a:\\-\\[\\]{}&*!|>'\"%@#?, \n<~0-9]{0,48}") {
        let _ = parse_all(text.as_bytes());
    }
}
