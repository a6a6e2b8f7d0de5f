use cloudeck_machinery::value;
use proptest::prelude::*;

use super::*;

fn set(text: &str) -> FieldSet {
    FieldSet::from_value(&json::parse(text.as_bytes()).unwrap()).unwrap()
}

fn shows(set: &FieldSet, text: &str) {
    assert_eq!(set.clone().into_value().to_string(), text);
}

#[test]
fn the_algebra_tells_members_from_nodes() {
    let left = set(r#"{"f:a":{".":{},"f:b":{},"f:c":{}},"f:d":{}}"#);
    let right = set(r#"{"f:a":{"f:b":{}},"f:e":{}}"#);
    shows(
        &left.clone().union(right.clone()),
        r#"{"f:a":{".":{},"f:b":{},"f:c":{}},"f:d":{},"f:e":{}}"#,
    );
    shows(&left.intersection(&right), r#"{"f:a":{"f:b":{}}}"#);
    shows(
        &left.clone().difference(&right),
        r#"{"f:a":{".":{},"f:c":{}},"f:d":{}}"#,
    );
    shows(&right.difference(&left), r#"{"f:e":{}}"#);
    let parent = set(r#"{"f:a":{}}"#);
    shows(
        &left.clone().difference(&parent),
        r#"{"f:a":{"f:b":{},"f:c":{}},"f:d":{}}"#,
    );
    let mut below = left.clone();
    below.subtract_below(&parent);
    shows(&below, r#"{"f:d":{}}"#);
    shows(&parent.clone().difference(&left), "{}");
    shows(
        &parent.union(set(r#"{"f:a":{"f:x":{}}}"#)),
        r#"{"f:a":{".":{},"f:x":{}}}"#,
    );
}

#[test]
fn elements_of_clients_become_canonical() {
    let client =
        set(r#"{"k:{\"protocol\":\"TCP\", \"port\":80}":{},"v: \"x\"":{},"i:007":{},"z:new":{"f:a":{}}}"#);
    shows(
        &client,
        r#"{"i:7":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{},"v:\"x\"":{}}"#,
    );
    for (bad, why) in [
        (r#"{"f":{}}"#, "key must be 2 characters long:"),
        (r#"{"name":{}}"#, "missing colon: name"),
        (r#"{"i:x":{}}"#, r#"strconv.Atoi: parsing "x": invalid syntax"#),
    ] {
        let fields = json::parse(bad.as_bytes()).unwrap();
        assert_eq!(FieldSet::from_value(&fields).unwrap_err(), why);
    }
}

#[test]
fn paths_print_as_in_conflicts() {
    let fields = set(
        r#"{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}},"f:replicas":{},"f:set":{"v:\"x\"":{}}}}"#,
    );
    assert_eq!(
        fields.paths(),
        [
            ".spec.replicas",
            r#".spec.ports[port=80,protocol="TCP"]"#,
            r#".spec.ports[port=80,protocol="TCP"].name"#,
            r#".spec.set[="x"]"#
        ]
    );
}

#[test]
fn items_print_in_the_order_of_their_numbers() {
    let ports =
        set(r#"{"k:{\"port\":443}":{},"k:{\"port\":80}":{},"k:{\"port\":-1}":{},"k:{\"port\":\"a\"}":{}}"#);
    assert_eq!(
        ports.paths(),
        ["[port=-1]", "[port=80]", "[port=443]", r#"[port="a"]"#]
    );
}

#[test]
fn paths_of_names_make_sets_and_leave_them() {
    let mut fields = FieldSet::of_paths(&[&["a"], &["a", "b"], &["c", "d"], &["c"]]);
    shows(&fields, r#"{"f:a":{".":{},"f:b":{}},"f:c":{".":{},"f:d":{}}}"#);
    fields.remove_path(&["a"]);
    fields.remove_path(&["c", "d"]);
    fields.remove_path(&["x", "y"]);
    shows(&fields, r#"{"f:a":{"f:b":{}},"f:c":{}}"#);
    fields.remove_path(&["a", "b"]);
    shows(&fields, r#"{"f:c":{}}"#);
}

fn any_set() -> impl Strategy<Value = FieldSet> {
    let leaf = Just(value!({}));
    let element = r#"f:[ab]|k:\{"n":[12]\}|v:"[ab]""#;
    leaf.prop_recursive(3, 16, 3, move |inner| {
        (any::<bool>(), prop::collection::vec((element, inner), 1..4)).prop_map(|(member, children)| {
            let own = member.then(|| (".".to_owned(), Value::object()));
            Value::Object(own.into_iter().chain(children).collect())
        })
    })
    .prop_map(|root| {
        let mut fields = FieldSet::from_value(&root).unwrap().into_value();
        fields.remove_at(&["."]);
        FieldSet::from_canonical(fields)
    })
}

proptest! {
    #[test]
    fn a_set_reads_back_as_it_was_written(fields in any_set()) {
        let text = fields.clone().into_value().to_string();
        prop_assert_eq!(FieldSet::from_value(&json::parse(text.as_bytes()).unwrap()).unwrap(), fields);
    }

    #[test]
    fn sets_obey_the_laws_of_sets(a in any_set(), b in any_set()) {
        prop_assert_eq!(a.clone().union(b.clone()), b.clone().union(a.clone()));
        prop_assert_eq!(a.clone().union(a.clone()), a.clone());
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.clone().difference(&b).union(a.intersection(&b)), a.clone());
        prop_assert!(a.clone().difference(&a).is_empty());
        prop_assert_eq!(a.clone().difference(&b).intersection(&b), FieldSet::new());
        prop_assert_eq!(a.clone().union(b.clone()).difference(&b).union(b.clone()), a.union(b));
    }
}
