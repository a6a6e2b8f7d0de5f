use cloudeck_machinery::value;
use proptest::prelude::*;

use super::*;
use crate::arbitrary;

fn patched(document: &str, patch: &str) -> Result<String, JsonPatchError> {
    let mut tree = json::parse(document.as_bytes()).unwrap();
    apply(&mut tree, &json::parse(patch.as_bytes()).unwrap())?;
    Ok(tree.to_string())
}

fn check(document: &str, patch: &str, result: &str) {
    assert_eq!(
        patched(document, patch).as_deref(),
        Ok(result),
        "{document} + {patch}"
    );
}

fn refuses(document: &str, patch: &str, message: &str) {
    assert_eq!(
        patched(document, patch).unwrap_err().to_string(),
        message,
        "{document} + {patch}"
    );
}

#[test]
fn operations_together_nest_no_deeper_than_one_may() {
    let nest = |levels: usize| ["{\"x\":".repeat(levels), "1".into(), "}".repeat(levels)].concat();
    let add = |path: &str, levels| format!(r#"{{"op":"add","path":"{path}","value":{}}}"#, nest(levels));
    let deep = "exceeded max depth of 200";
    // One level for the member itself.
    let full = format!("[{}]", add("/a", 199));
    assert!(patched("{}", &full).is_ok());
    refuses("{}", &format!("[{}]", add("/a", 200)), deep);
    let below = format!("/a{}", "/x".repeat(198));
    let beyond = format!("[{},{}]", add("/a", 199), add(&below, 2));
    refuses("{}", &beyond, deep);
    refuses(
        "{}",
        &beyond.replace(
            "\"op\":\"add\",\"path\":\"/a/",
            "\"op\":\"replace\",\"path\":\"/a/",
        ),
        deep,
    );
    let onto = |op| {
        format!(
            r#"[{},{},{{"op":"{op}","from":"/b","path":"{below}"}}]"#,
            add("/a", 199),
            add("/b", 5)
        )
    };
    refuses("{}", &onto("copy"), deep);
    refuses("{}", &onto("move"), deep);
    let doubling: Vec<String> = (0..60)
        .map(|n| {
            format!(
                r#"{{"op":"copy","from":"/a","path":"/a{}"}}"#,
                "/x".repeat(1 << n.min(12))
            )
        })
        .collect();
    refuses(
        &format!(r#"{{"a":{}}}"#, nest(1)),
        &format!("[{}]", doubling.join(",")),
        deep,
    );
}

#[test]
fn every_operation_does_what_the_standard_says() {
    check(
        r#"{"a":1}"#,
        r#"[{"op":"add","path":"/b","value":{"c":2}}]"#,
        r#"{"a":1,"b":{"c":2}}"#,
    );
    check(
        r#"{"a":[1,3]}"#,
        r#"[{"op":"add","path":"/a/1","value":2}]"#,
        r#"{"a":[1,2,3]}"#,
    );
    check(
        r#"{"a":[1]}"#,
        r#"[{"op":"add","path":"/a/-","value":2}]"#,
        r#"{"a":[1,2]}"#,
    );
    check(
        r#"{"a":[1]}"#,
        r#"[{"op":"add","path":"/a/1","value":2}]"#,
        r#"{"a":[1,2]}"#,
    );
    check(
        r#"{"a":1,"b":2}"#,
        r#"[{"op":"remove","path":"/a"}]"#,
        r#"{"b":2}"#,
    );
    check(
        r#"{"a":[1,2]}"#,
        r#"[{"op":"replace","path":"/a/0","value":3}]"#,
        r#"{"a":[3,2]}"#,
    );
    check(
        r#"{"a":{"b":1}}"#,
        r#"[{"op":"move","from":"/a/b","path":"/c"}]"#,
        r#"{"a":{},"c":1}"#,
    );
    check(
        r#"{"a":{"b":1}}"#,
        r#"[{"op":"copy","from":"/a","path":"/c"}]"#,
        r#"{"a":{"b":1},"c":{"b":1}}"#,
    );
    check(
        r#"{"a~b":{"c/d":1}}"#,
        r#"[{"op":"test","path":"/a~0b/c~1d","value":1}]"#,
        r#"{"a~b":{"c/d":1}}"#,
    );
    check(
        r#"{"a":1}"#,
        r#"[{"op":"replace","path":"","value":{"b":2}}]"#,
        r#"{"b":2}"#,
    );
    check(r#"{"~01":1}"#, r#"[{"op":"remove","path":"/~001"}]"#, "{}");
}

#[test]
fn the_librarys_latitude_is_kept() {
    check(
        r#"{"a":[1,2,3]}"#,
        r#"[{"op":"remove","path":"/a/-1"}]"#,
        r#"{"a":[1,2]}"#,
    );
    check("{}", r#"[{"op":"replace","path":"/a","value":1}]"#, r#"{"a":1}"#);
    check("{}", r#"[{"op":"test","path":"/a","value":null}]"#, "{}");
    check("{}", r#"[{"op":"test","path":"/a"}]"#, "{}");
    check("{}", r#"[{"op":"add","path":"/a"}]"#, r#"{"a":null}"#);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_document_alone() {
    refuses(
        "{}",
        r#"[{"op":"remove","path":"/a"}]"#,
        "error in remove for path: '/a': Unable to remove nonexistent key: a: missing value",
    );
    refuses(
        "{}",
        r#"[{"op":"add","path":"/a/b","value":1}]"#,
        "add operation does not apply: doc is missing path: \"/a/b\": missing value",
    );
    refuses(
        r#"{"a":1}"#,
        r#"[{"op":"test","path":"/a","value":2}]"#,
        "testing value /a failed: test failed",
    );
    refuses(
        r#"{"a":1}"#,
        r#"[{"op":"test","path":"/a","value":1.0}]"#,
        "testing value /a failed: test failed",
    );
    refuses(
        r#"{"a":[]}"#,
        r#"[{"op":"add","path":"/a/2","value":1}]"#,
        "error in add for path: '/a/2': Unable to access invalid index: 2: invalid index referenced",
    );
    refuses("{}", r#"[{"op":"jump"}]"#, "Unexpected kind: jump");
    refuses(
        "{}",
        r#"{"op":"add"}"#,
        "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
    );
    let mut document = value!({"a": 1});
    let patch = value!([{"op": "add", "path": "/b", "value": 2}, {"op": "test", "path": "/a", "value": 9}]);
    assert!(apply(&mut document, &patch).is_err());
    assert_eq!(document, value!({"a": 1}));
}

#[test]
fn the_number_of_operations_and_the_size_of_copies_are_bounded() {
    let operation = value!({"op": "test", "path": "/a"});
    let many = Value::Array(vec![operation; MAX_OPERATIONS + 1]);
    let error = apply(&mut Value::object(), &many).unwrap_err();
    assert_eq!(Status::from(error).code, 413);
    // Doubles an array some thirty times.
    let double = value!({"op": "copy", "from": "/a", "path": "/a/-"});
    let mut document = value!({"a": [1]});
    let error = apply(&mut document, &Value::Array(vec![double; 30])).unwrap_err();
    assert!(
        error.to_string().starts_with("Unable to complete the copy"),
        "{error}"
    );
    assert_eq!(Status::from(error).code, 422);
}

proptest! {
    #[test]
    fn any_patch_is_applied_or_refused(document in arbitrary::object(), operations in arbitrary::operations()) {
        let before = document.clone();
        let mut document = document;
        if apply(&mut document, &operations).is_err() {
            prop_assert_eq!(document, before);
        }
    }

    #[test]
    fn adding_then_removing_a_member_is_the_identity(document in arbitrary::object(), value in arbitrary::tree()) {
        let mut patched = document.clone();
        let patch = value!([{"op": "add", "path": "/new member", "value": (value)}, {"op": "remove", "path": "/new member"}]);
        apply(&mut patched, &patch).unwrap();
        prop_assert_eq!(patched, document);
    }
}
