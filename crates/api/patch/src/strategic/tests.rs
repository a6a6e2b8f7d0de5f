use cloudeck_machinery::json;
use proptest::prelude::*;

use super::*;

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

fn kind(kind: &str) -> TypeRef {
    let group = if kind == "Deployment" { "apps" } else { "" };
    cloudeck_schema::type_of_kind(group, "v1", kind).unwrap()
}

fn patched(of: &str, document: &str, patch: &str) -> Result<String, StrategicError> {
    let mut document = tree(document);
    apply(kind(of), &mut document, tree(patch))?;
    Ok(document.to_string())
}

fn check(of: &str, document: &str, patch: &str, result: &str) {
    let result = tree(result).to_string();
    assert_eq!(
        patched(of, document, patch).as_deref(),
        Ok(result.as_str()),
        "{document} + {patch}"
    );
}

/// The same for the containers of a pod.
fn containers(old: &str, patch: &str, result: &str) {
    let pod = |list: &str| format!(r#"{{"spec":{{"containers":{list}}}}}"#);
    check("Pod", &pod(old), &format!(r#"{{"spec":{patch}}}"#), &pod(result));
}

fn refuses(of: &str, document: &str, patch: &str, message: &str) {
    assert_eq!(
        patched(of, document, patch).unwrap_err().to_string(),
        message,
        "{patch}"
    );
}

#[test]
fn lists_merge_by_their_key_and_new_items_come_after_the_live_ones() {
    let old = r#"[{"name":"a","image":"1"},{"name":"b","image":"1"}]"#;
    containers(
        old,
        r#"{"containers":[{"name":"b","image":"2"}]}"#,
        r#"[{"name":"a","image":"1"},{"name":"b","image":"2"}]"#,
    );
    // Without an order from the patch, a new item goes before what the patch does not name.
    containers(
        old,
        r#"{"containers":[{"name":"c","image":"3"}]}"#,
        r#"[{"name":"c","image":"3"},{"name":"a","image":"1"},{"name":"b","image":"1"}]"#,
    );
    containers(
        old,
        r#"{"containers":[{"name":"a","env":[{"name":"X","value":"1"}]}]}"#,
        r#"[{"name":"a","image":"1","env":[{"name":"X","value":"1"}]},{"name":"b","image":"1"}]"#,
    );
    refuses(
        "Pod",
        r#"{"spec":{"containers":[{"name":"a"}]}}"#,
        r#"{"spec":{"containers":[{"image":"x"}]}}"#,
        "map: map[image:x] does not contain declared merge key: name",
    );
}

#[test]
fn directives_delete_replace_and_refuse() {
    let old = r#"[{"name":"a","image":"1"},{"name":"b","image":"1"}]"#;
    containers(
        old,
        r#"{"containers":[{"name":"a","$patch":"delete"}]}"#,
        r#"[{"name":"b","image":"1"}]"#,
    );
    containers(
        old,
        r#"{"containers":[{"name":"c"},{"$patch":"replace"}]}"#,
        r#"[{"name":"c"}]"#,
    );
    check(
        "Pod",
        r#"{"spec":{"nodeName":"n"}}"#,
        r#"{"spec":{"$patch":"delete"}}"#,
        r#"{"spec":{}}"#,
    );
    check(
        "Pod",
        r#"{"spec":{"nodeName":"n"}}"#,
        r#"{"spec":{"$patch":"replace","hostNetwork":true}}"#,
        r#"{"spec":{"hostNetwork":true}}"#,
    );
    refuses(
        "Pod",
        r#"{"spec":{}}"#,
        r#"{"spec":{"$patch":"odd"}}"#,
        "unknown patch type: odd in map: map[$patch:odd]",
    );
    refuses(
        "Pod",
        r#"{"spec":{"containers":[{"name":"a"}]}}"#,
        r#"{"spec":{"containers":[{"name":"a","$patch":"merge"}]}}"#,
        "merging lists cannot yet be specified in the patch",
    );
}

#[test]
fn lists_of_scalars_merge_as_sets_where_the_schema_says_so() {
    check(
        "Pod",
        r#"{"metadata":{"finalizers":["a","b"]}}"#,
        r#"{"metadata":{"finalizers":["b","c"]}}"#,
        r#"{"metadata":{"finalizers":["a","b","c"]}}"#,
    );
    check(
        "Pod",
        r#"{"metadata":{"finalizers":["a","b"]}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"]}}"#,
        r#"{"metadata":{"finalizers":["b"]}}"#,
    );
    check(
        "Pod",
        r#"{"spec":{"containers":[{"name":"a","command":["x","y"]}]}}"#,
        r#"{"spec":{"containers":[{"name":"a","command":["z"]}]}}"#,
        r#"{"spec":{"containers":[{"name":"a","command":["z"]}]}}"#,
    );
    refuses(
        "Pod",
        "{}",
        r#"{"$deleteFromPrimitiveList":[]}"#,
        "invalid patch format of primitive list",
    );
}

#[test]
fn the_order_of_elements_is_the_patchs() {
    let old = r#"[{"name":"a"},{"name":"b"},{"name":"c"}]"#;
    containers(
        old,
        r#"{"$setElementOrder/containers":[{"name":"c"},{"name":"a"}]}"#,
        r#"[{"name":"b"},{"name":"c"},{"name":"a"}]"#,
    );
    containers(
        old,
        r#"{"$setElementOrder/containers":[{"name":"d"},{"name":"a"},{"name":"b"},{"name":"c"}],"containers":[{"name":"d","image":"1"}]}"#,
        r#"[{"name":"d","image":"1"},{"name":"a"},{"name":"b"},{"name":"c"}]"#,
    );
    refuses(
        "Pod",
        r#"{"spec":{"containers":[{"name":"a"}]}}"#,
        r#"{"spec":{"$setElementOrder/containers":[{"name":"a"}],"containers":[{"name":"b"}]}}"#,
        "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
    );
    refuses(
        "Pod",
        "{}",
        r#"{"$setElementOrder":[]}"#,
        "invalid patch format of setElementOrder list",
    );
}

#[test]
fn retained_keys_are_all_that_is_kept() {
    let old = r#"{"spec":{"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1}}}}"#;
    let patch = r#"{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}"#;
    check(
        "Deployment",
        old,
        patch,
        r#"{"spec":{"strategy":{"type":"Recreate"}}}"#,
    );
    refuses(
        "Deployment",
        old,
        r#"{"spec":{"strategy":{"$retainKeys":[],"type":"Recreate"}}}"#,
        "invalid patch format of retainKeys",
    );
}

#[test]
fn nulls_delete_and_types_that_differ_replace() {
    check(
        "Pod",
        r#"{"spec":{"nodeName":"n"},"metadata":{"labels":{"a":"1"}}}"#,
        r#"{"spec":null,"metadata":{"labels":{"a":null,"b":"2"}}}"#,
        r#"{"metadata":{"labels":{"b":"2"}}}"#,
    );
    check(
        "Pod",
        r#"{"spec":{}}"#,
        r#"{"spec":{"volumes":[{"name":"v","emptyDir":null}]}}"#,
        r#"{"spec":{"volumes":[{"name":"v"}]}}"#,
    );
    check(
        "Pod",
        r#"{"metadata":null}"#,
        r#"{"metadata":{"name":"x"}}"#,
        r#"{"metadata":{"name":"x"}}"#,
    );
    refuses(
        "Pod",
        r#"{"spec":{"odd":{}}}"#,
        r#"{"spec":{"odd":{}}}"#,
        r#"unable to find api field in struct PodSpec for the json field "odd""#,
    );
    assert_eq!(
        apply(kind("Pod"), &mut Value::object(), Value::Null),
        Err(StrategicError::NotAnObject)
    );
}

#[test]
fn statuses_are_upstreams() {
    assert_eq!(Status::from(StrategicError::RetainKeys).code, 400);
    assert_eq!(Status::from(StrategicError::ListOfLists).code, 422);
    assert_eq!(Status::from(StrategicError::Unfit("x".into())).code, 500);
    assert_eq!(unsupported().code, 415);
}

fn pod() -> impl Strategy<Value = Value> {
    let container = (
        "[abc]",
        prop::option::of("[12]"),
        prop::collection::btree_map("[AB]", "[xy]", 0..3),
    )
        .prop_map(|(name, image, env)| {
            let mut container = cloudeck_machinery::value!({"name": (name)});
            if let Some(image) = image {
                container.set_at(&["image"], image);
            }
            let env = env
                .into_iter()
                .map(|(name, value)| cloudeck_machinery::value!({"name": (name), "value": (value)}));
            container.set_at(&["env"], env.collect::<Vec<Value>>());
            container
        });
    (prop::collection::vec(container, 0..4), prop::collection::btree_map("[ab]", "[12]", 0..3)).prop_map(|(list, labels)| {
        let mut containers: Vec<Value> = Vec::new();
        for item in list {
            if !containers.iter().any(|other| other.get("name") == item.get("name")) {
                containers.push(item);
            }
        }
        let labels: Map = labels.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
        cloudeck_machinery::value!({"metadata": {"labels": (labels)}, "spec": {"containers": (containers)}})
    })
}

proptest! {
    #[test]
    fn an_object_patched_with_itself_or_nothing_stays(pod in pod()) {
        for patch in [pod.clone(), Value::object()] {
            let mut patched = pod.clone();
            apply(kind("Pod"), &mut patched, patch).unwrap();
            prop_assert_eq!(&patched, &pod);
        }
    }

    #[test]
    fn a_patch_applied_twice_changes_nothing_more(pod in pod(), patch in pod()) {
        let mut once = pod;
        apply(kind("Pod"), &mut once, patch.clone()).unwrap();
        let mut twice = once.clone();
        apply(kind("Pod"), &mut twice, patch).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn any_patch_is_applied_or_refused(document in crate::arbitrary::object(), patch in crate::arbitrary::object()) {
        let before = document.clone();
        let mut document = document;
        if apply(kind("Pod"), &mut document, patch).is_err() {
            prop_assert_eq!(document, before);
        }
    }
}
