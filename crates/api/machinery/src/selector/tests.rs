use proptest::prelude::*;

use super::*;
use crate::value;

fn labels(pairs: &[(&str, &str)]) -> Map {
    pairs
        .iter()
        .map(|(key, value)| (*key, Value::from(*value)))
        .collect()
}

/// The text reads back as `canonical`, matches the first label sets and not the second.
fn check(text: &str, canonical: &str, matching: &[&[(&str, &str)]], others: &[&[(&str, &str)]]) {
    let selector = LabelSelector::parse(text).unwrap();
    assert_eq!(selector.to_string(), canonical);
    for set in matching {
        assert!(selector.matches(&labels(set)), "{text} should match {set:?}");
    }
    for set in others {
        assert!(!selector.matches(&labels(set)), "{text} should not match {set:?}");
    }
}

fn refuses(text: &str, message: &str) {
    assert_eq!(
        LabelSelector::parse(text).unwrap_err().to_string(),
        message,
        "{text}"
    );
}

#[test]
fn every_operator_matches_as_upstream() {
    check("", "", &[&[], &[("a", "b")]], &[]);
    check("a=b", "a=b", &[&[("a", "b")]], &[&[], &[("a", "c")]]);
    check("a == b", "a==b", &[&[("a", "b")]], &[&[]]);
    check("a!=b", "a!=b", &[&[], &[("a", "c")]], &[&[("a", "b")]]);
    check("a", "a", &[&[("a", "")]], &[&[("b", "")]]);
    check("!a", "!a", &[&[]], &[&[("a", "")]]);
    check(
        "x in (c, a)",
        "x in (a,c)",
        &[&[("x", "a")], &[("x", "c")]],
        &[&[], &[("x", "b")]],
    );
    check(
        "x notin (a)",
        "x notin (a)",
        &[&[], &[("x", "b")]],
        &[&[("x", "a")]],
    );
    check(
        "x>3,x<7",
        "x>3,x<7",
        &[&[("x", "5")]],
        &[&[("x", "3")], &[("x", "y")], &[]],
    );
    check(
        "z=1,a in (b,,c),!y",
        "a in (,b,c),!y,z=1",
        &[&[("a", ""), ("z", "1")]],
        &[&[("z", "1")]],
    );
    check("x in ()", "x in ()", &[&[("x", "")]], &[&[]]);
    check("a=", "a=", &[&[("a", "")]], &[&[]]);
    check(
        "in in (in,notin)",
        "in in (in,notin)",
        &[&[("in", "notin")]],
        &[&[]],
    );
}

#[test]
fn errors_read_as_upstreams() {
    refuses(
        "a b",
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    );
    refuses("a=b c", "found 'c', expected: ',' or 'end of string'");
    refuses(",", "found ',', expected: !, identifier, or 'end of string'");
    refuses("a,", "found '', expected: identifier after ','");
    refuses("x in a", "unable to parse requirement: found 'a' expected: '('");
    refuses(
        "x in (a",
        "unable to parse requirement: found '', expected: ',' or ')'",
    );
    refuses(
        "a==!b",
        "unable to parse requirement: found '!', expected: identifier",
    );
    refuses("!", "unable to parse requirement: found '', expected: identifier");
    refuses(
        "a>b",
        "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
    );
    let long = LabelSelector::parse("a/b/c=d").unwrap_err().to_string();
    assert!(
        long.starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key ")
    );
    let value = LabelSelector::parse("a=-").unwrap_err().to_string();
    assert!(
        value.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label ")
    );
}

#[test]
fn selector_objects_match_nothing_when_absent_and_everything_when_empty() {
    assert!(LabelSelector::from_value(None).unwrap().is_nothing());
    assert!(!LabelSelector::nothing().matches(&labels(&[])));
    assert!(
        LabelSelector::from_value(Some(&value!({})))
            .unwrap()
            .is_everything()
    );
    let object = value!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["db"]}, {"key": "a", "operator": "Exists"}]
    });
    let selector = LabelSelector::from_value(Some(&object)).unwrap();
    assert_eq!(selector.to_string(), "a,app=web,tier notin (db)");
    assert_eq!(selector.required_value("app"), Some("web"));
    let bad = value!({"matchExpressions": [{"key": "a", "operator": "in"}]});
    assert_eq!(
        LabelSelector::from_value(Some(&bad)).unwrap_err().to_string(),
        r#""in" is not a valid label selector operator"#
    );
    let empty = value!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    assert_eq!(
        LabelSelector::from_value(Some(&empty)).unwrap_err().to_string(),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
}

#[test]
fn field_selectors_split_at_the_first_operator_and_unescape() {
    let selector = FieldSelector::parse(r"spec.nodeName!=b,metadata.name==a\,b\=c").unwrap();
    assert_eq!(selector.to_string(), r"metadata.name=a\,b\=c,spec.nodeName!=b");
    assert_eq!(selector.required_value("metadata.name"), Some("a,b=c"));
    assert_eq!(selector.required_value("spec.nodeName"), None);
    assert!(selector.matches(|field| (field == "metadata.name").then_some("a,b=c")));
    assert!(!selector.matches(|_| None));
    assert!(FieldSelector::parse("").unwrap().is_everything());
    assert!(FieldSelector::parse(",").unwrap().is_everything());
    let refuses = |text: &str, message: &str| {
        assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), message);
    };
    refuses("a", "invalid selector: 'a'; can't understand 'a'");
    refuses("a!b", "invalid selector: 'a!b'; can't understand 'a!b'");
    refuses(r"a=\x", r"invalid field selector: invalid escape sequence: \x");
    refuses("a=b\\", "invalid field selector: invalid escape sequence: \\");
    refuses(
        "a=b=c",
        "invalid field selector: unescaped character in value: 61",
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_reads_back(text in "[a-c!=<>(), \\\\in/.\0é]{0,24}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            let again = LabelSelector::parse(&selector.to_string()).unwrap();
            prop_assert_eq!(again, selector);
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            // A field whose name ends in `!` makes another operator when written out.
            if !selector.requirements().iter().any(|r| r.field.ends_with('!') || r.field.contains('\\')) {
                prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap().requirements().len(), selector.requirements().len());
            }
        }
    }

    #[test]
    fn an_operator_and_its_negation_divide_all_labels(value in proptest::option::of("[a-c]{0,2}"), wanted in "[a-c]{0,2}") {
        let labels: Map = value.iter().map(|v| ("k", Value::from(v.as_str()))).collect();
        let matches = |text: String| LabelSelector::parse(&text).unwrap().matches(&labels);
        prop_assert_ne!(matches(format!("k={wanted}")), matches(format!("k!={wanted}")));
        prop_assert_ne!(matches(format!("k in ({wanted},d)")), matches(format!("k notin ({wanted},d)")));
        prop_assert_ne!(matches("k".into()), matches("!k".into()));
    }

    #[test]
    fn escaped_values_come_back(value in "[a,=\\\\ é]{0,8}") {
        let text = format!("f={}", escape_field_value(&value));
        let selector = FieldSelector::parse(&text).unwrap();
        prop_assert_eq!(selector.required_value("f"), Some(value.as_str()));
    }
}
