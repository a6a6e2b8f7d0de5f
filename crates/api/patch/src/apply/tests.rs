use cloudeck_machinery::{GroupVersionKind, json, value};

use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";

fn tree(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

fn deployment() -> GroupVersionKind {
    GroupVersionKind::new("apps", "v1", "Deployment")
}

fn ty(kind: &GroupVersionKind) -> Option<TypeRef> {
    cloudeck_schema::type_of_kind(&kind.group, &kind.version, &kind.kind)
}

/// Applies as `manager`; the object comes back as it would be stored.
fn apply_as(live: Option<&Value>, patch: &Value, manager: &str, force: bool) -> Result<Value, Status> {
    let kind = GroupVersionKind::new(
        cloudeck_machinery::object::split_api_version(patch.str_at(&["apiVersion"]).unwrap()).0,
        "v1",
        patch.str_at(&["kind"]).unwrap(),
    );
    apply_patch(ApplyInput {
        live,
        patch,
        kind: &kind,
        ty: ty(&kind),
        manager,
        force,
        subresource: "",
        reset_fields: &[&["status"]],
        now: NOW,
    })
}

fn update_as(old: Option<&Value>, new: &Value, manager: &str, now: &str) -> Value {
    let mut new = new.clone();
    let api_version = new.str_at(&["apiVersion"]).unwrap().to_owned();
    let (group, version) = cloudeck_machinery::object::split_api_version(&api_version);
    let ty = cloudeck_schema::type_of_kind(group, version, new.str_at(&["kind"]).unwrap());
    track_update(UpdateInput {
        old,
        new: &mut new,
        ty,
        manager,
        subresource: "",
        api_version: &api_version,
        reset_fields: &[&["status"]],
        now,
    });
    new
}

/// The fields of the entry of `manager`.
fn fields(object: &Value, manager: &str) -> Option<String> {
    let entries = object.items_at(&["metadata", "managedFields"]);
    let entry = entries
        .iter()
        .find(|entry| entry.str_at(&["manager"]) == Some(manager))?;
    Some(entry.get("fieldsV1")?.to_string())
}

fn web(spec: &str) -> Value {
    tree(&format!(
        r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"web"}},"spec":{spec}}}"#
    ))
}

#[test]
fn a_created_pod_is_owned_field_by_field() {
    let pod = tree(
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"n","uid":"u","labels":{"app":"x"}},
            "spec":{"containers":[{"name":"c","image":"i","resources":{},"ports":[{"containerPort":80,"protocol":"TCP"}]}],
                    "restartPolicy":"Always","securityContext":{}},"status":{}}"#,
    );
    let stored = update_as(None, &pod, "kubectl", NOW);
    assert_eq!(
        fields(&stored, "kubectl").unwrap(),
        concat!(
            r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":"#,
            r#"{".":{},"f:image":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":"#,
            r#"{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}},"f:restartPolicy":{},"f:securityContext":{}}}"#
        )
    );
    let entry = &stored.items_at(&["metadata", "managedFields"])[0];
    assert_eq!(entry.str_at(&["operation"]), Some("Update"));
    assert_eq!(entry.str_at(&["time"]), Some(NOW));
}

#[test]
fn an_update_takes_what_it_changes_and_nothing_else() {
    let first = update_as(None, &web(r#"{"replicas":1,"paused":true}"#), "a", NOW);
    let mut second = first.clone();
    second.set_at(&["metadata", "uid"], "u");
    second.set_at(&["spec", "replicas"], 2);
    let mut live = first.clone();
    live.set_at(&["metadata", "uid"], "u");
    let second = update_as(Some(&live), &second, "b", "2026-01-01T00:00:05Z");
    assert_eq!(fields(&second, "a").unwrap(), r#"{"f:spec":{"f:paused":{}}}"#);
    assert_eq!(fields(&second, "b").unwrap(), r#"{"f:spec":{"f:replicas":{}}}"#);
    // Nothing changed: nobody's record or time changes.
    let third = update_as(Some(&second), &second, "c", "2026-01-01T00:00:09Z");
    assert_eq!(third, second);
    // A removed field is nobody's.
    let mut fourth = second.clone();
    fourth.remove_at(&["spec", "paused"]);
    let fourth = update_as(Some(&second), &fourth, "c", "2026-01-01T00:00:09Z");
    assert_eq!(fields(&fourth, "a"), None);
    assert_eq!(fields(&fourth, "c"), None);
}

#[test]
fn clients_that_drop_or_reset_the_record() {
    let mut live = update_as(None, &web(r#"{"replicas":1}"#), "a", NOW);
    live.set_at(&["metadata", "uid"], "u");
    let mut without = live.clone();
    without.remove_at(&["metadata", "managedFields"]);
    assert_eq!(update_as(Some(&live), &without, "b", NOW), live);
    for reset in [value!([]), value!([{}])] {
        let mut asked = live.clone();
        asked.set_at(&["metadata", "managedFields"], reset);
        let stored = update_as(Some(&live), &asked, "b", NOW);
        assert_eq!(stored.at(&["metadata", "managedFields"]), None);
        // From then on nobody is tracked …
        let mut changed = stored.clone();
        changed.set_at(&["spec", "replicas"], 5);
        assert_eq!(
            update_as(Some(&stored), &changed, "c", NOW).at(&["metadata", "managedFields"]),
            None
        );
        // … until the first apply.
        let applied = apply_as(Some(&stored), &web(r#"{"replicas":1}"#), "d", false).unwrap();
        assert!(fields(&applied, "d").is_some());
        assert!(fields(&applied, "before-first-apply").is_some());
    }
}

#[test]
fn taking_anothers_field_is_a_conflict_unless_forced() {
    let live = update_as(None, &web(r#"{"replicas":3}"#), "kubectl", NOW);
    let patch = web(r#"{"replicas":5}"#);
    let status = apply_as(Some(&live), &patch, "me", false).unwrap_err();
    assert_eq!(status.code, 409);
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "kubectl" using apps/v1: .spec.replicas"#
    );
    let causes = status.details.unwrap().causes;
    assert_eq!(causes[0].message, r#"conflict with "kubectl" using apps/v1"#);
    assert_eq!(causes[0].field, ".spec.replicas");
    let forced = apply_as(Some(&live), &patch, "me", true).unwrap();
    assert_eq!(forced.int_at(&["spec", "replicas"]), Some(5));
    assert_eq!(fields(&forced, "kubectl"), None);
    assert_eq!(fields(&forced, "me").unwrap(), r#"{"f:spec":{"f:replicas":{}}}"#);
    // Saying the same as the owner shares the field.
    let shared = apply_as(Some(&live), &web(r#"{"replicas":3}"#), "me", false).unwrap();
    assert!(fields(&shared, "kubectl").is_some() && fields(&shared, "me").is_some());
}

#[test]
fn several_conflicts_are_listed_by_owner() {
    let live = apply_as(None, &web(r#"{"replicas":3,"paused":true}"#), "b", false).unwrap();
    let status = apply_as(Some(&live), &web(r#"{"replicas":5,"paused":false}"#), "a", false).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"b\":\n- .spec.paused\n- .spec.replicas"
    );
}

#[test]
fn what_is_no_longer_applied_goes_unless_others_own_it() {
    let first = apply_as(
        None,
        &web(r#"{"replicas":3,"paused":true,"minReadySeconds":4}"#),
        "a",
        false,
    )
    .unwrap();
    let second = apply_as(Some(&first), &web(r#"{"minReadySeconds":4}"#), "b", false).unwrap();
    let third = apply_as(Some(&second), &web(r#"{"replicas":3}"#), "a", false).unwrap();
    assert_eq!(third.at(&["spec", "paused"]), None);
    assert_eq!(third.int_at(&["spec", "minReadySeconds"]), Some(4));
    assert_eq!(
        fields(&third, "b").unwrap(),
        r#"{"f:spec":{"f:minReadySeconds":{}}}"#
    );
}

#[test]
fn items_of_lists_come_and_go_by_key_and_others_stay() {
    let with = |containers: &str| {
        web(&format!(
            r#"{{"template":{{"spec":{{"containers":{containers}}}}}}}"#
        ))
    };
    let names = |object: &Value| -> Vec<String> {
        let containers = object.items_at(&["spec", "template", "spec", "containers"]);
        containers
            .iter()
            .map(|c| c.str_at(&["name"]).unwrap().to_owned())
            .collect()
    };
    let first = apply_as(
        None,
        &with(r#"[{"name":"a","image":"1"},{"name":"b","image":"1"}]"#),
        "x",
        false,
    )
    .unwrap();
    let second = apply_as(Some(&first), &with(r#"[{"name":"c","image":"1"}]"#), "y", false).unwrap();
    assert_eq!(names(&second), ["a", "b", "c"]);
    let third = apply_as(Some(&second), &with(r#"[{"name":"b","image":"1"}]"#), "x", false).unwrap();
    assert_eq!(names(&third), ["b", "c"]);
    assert_eq!(
        third.items_at(&["spec", "template", "spec", "containers"])[1].str_at(&["image"]),
        Some("1")
    );
}

#[test]
fn what_does_not_fit_is_refused_as_upstream() {
    let status = apply_as(None, &web(r#"{"replica":3}"#), "a", false).unwrap_err();
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            500,
            "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema"
        )
    );
    let mut patch = web("{}");
    patch.set_at(&["metadata", "managedFields"], Value::Array(Vec::new()));
    assert_eq!(
        apply_as(None, &patch, "a", false).unwrap_err().message,
        "metadata.managedFields must be nil"
    );
    let twice = web(r#"{"template":{"spec":{"containers":[{"name":"a"},{"name":"a"}]}}}"#);
    assert_eq!(
        apply_as(None, &twice, "a", false).unwrap_err().message,
        r#"failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name="a"]"#
    );
    let kind = deployment();
    let pod = tree(r#"{"apiVersion":"v1","kind":"Pod"}"#);
    let input = ApplyInput {
        live: None,
        patch: &pod,
        kind: &kind,
        ty: None,
        manager: "a",
        force: false,
        subresource: "",
        reset_fields: &[],
        now: NOW,
    };
    assert_eq!(
        apply_patch(input).unwrap_err().message,
        "invalid object type: /v1, Kind=Pod"
    );
}

#[test]
fn kubectl_takes_over_what_client_side_apply_left() {
    let applied =
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":3}}"#;
    let mut object = web(r#"{"replicas":3,"paused":true}"#);
    object.set_at(&["metadata", "annotations", LAST_APPLIED], format!("{applied}\n"));
    let live = update_as(None, &object, "kubectl-client-side-apply", NOW);
    let after = apply_as(Some(&live), &web(r#"{"replicas":4}"#), "kubectl", false).unwrap();
    assert_eq!(after.int_at(&["spec", "replicas"]), Some(4));
    assert_eq!(
        after.str_at(&["metadata", "annotations", LAST_APPLIED]).unwrap(),
        "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\"},\"spec\":{\"replicas\":4}}\n"
    );
    // Another manager has no such privilege, and what was not applied stays in conflict.
    assert!(apply_as(Some(&live), &web(r#"{"replicas":4}"#), "other", false).is_err());
    let status = apply_as(
        Some(&live),
        &web(r#"{"replicas":4,"paused":false}"#),
        "kubectl",
        false,
    )
    .unwrap_err();
    assert_eq!(
        status.message,
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.paused"#
    );
}

#[test]
fn the_status_belongs_to_its_subresource() {
    let mut object = web(r#"{"replicas":1}"#);
    object.set_at(&["status", "replicas"], 1);
    let live = update_as(None, &object, "a", NOW);
    assert_eq!(fields(&live, "a").unwrap(), r#"{"f:spec":{"f:replicas":{}}}"#);
    let mut new = live.clone();
    new.set_at(&["status", "replicas"], 2);
    new.set_at(&["spec", "replicas"], 9);
    track_update(UpdateInput {
        old: Some(&live),
        new: &mut new,
        ty: ty(&deployment()),
        manager: "c",
        subresource: "status",
        api_version: "apps/v1",
        reset_fields: &[&["spec"], &["metadata", "labels"]],
        now: NOW,
    });
    assert_eq!(fields(&new, "a").unwrap(), r#"{"f:spec":{"f:replicas":{}}}"#);
    assert_eq!(fields(&new, "c").unwrap(), r#"{"f:status":{"f:replicas":{}}}"#);
}

#[test]
fn a_change_of_times_alone_counts_as_nothing() {
    let old = update_as(None, &web(r#"{"replicas":1}"#), "a", NOW);
    let mut new = update_as(None, &web(r#"{"replicas":1}"#), "a", "2026-01-01T00:01:00Z");
    assert_ne!(new, old);
    assert!(keep_times_of_no_change(&old, &mut new));
    assert_eq!(new, old);
    let mut changed = update_as(None, &web(r#"{"replicas":2}"#), "a", NOW);
    assert!(!keep_times_of_no_change(&old, &mut changed));
}

#[test]
fn managers_are_named_after_the_user_agent() {
    assert_eq!(manager_name("me", "kubectl/v1.37"), "me");
    assert_eq!(manager_name("", "kubectl/v1.37 (linux)"), "kubectl");
    assert_eq!(manager_name("", &"é".repeat(100)).len(), 128);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn config() -> impl Strategy<Value = Value> {
        let ports =
            prop::collection::btree_map((prop::sample::select(vec![80i64, 443]), "TCP|UDP"), "[ab]", 0..3);
        let containers = prop::collection::btree_map("[abc]", (prop::option::of("[12]"), ports), 0..3);
        let labels = prop::collection::btree_map("[ab]", "[12]", 0..3);
        (containers, labels, prop::option::of(0i64..3)).prop_map(|(containers, labels, replicas)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, ports))| {
                    let mut container = value!({"name": (name)});
                    if let Some(image) = image {
                        container.set_at(&["image"], image);
                    }
                    let ports = ports.into_iter().map(|((port, protocol), name)| {
                        value!({"containerPort": (port), "protocol": (protocol), "name": (name)})
                    });
                    let ports: Vec<Value> = ports.collect();
                    if !ports.is_empty() {
                        container.set_at(&["ports"], ports);
                    }
                    container
                })
                .collect();
            let labels: cloudeck_machinery::Map = labels
                .into_iter()
                .map(|(key, value)| (key, Value::from(value)))
                .collect();
            let mut object = web("{}");
            if let Some(replicas) = replicas {
                object.set_at(&["spec", "replicas"], replicas);
            }
            if !labels.is_empty() {
                object.set_at(&["metadata", "labels"], labels);
            }
            if !containers.is_empty() {
                object.set_at(&["spec", "template", "spec", "containers"], containers);
            }
            object
        })
    }

    proptest! {
        #[test]
        fn applying_the_same_twice_changes_nothing(live in config(), patch in config()) {
            let live = apply_as(None, &live, "a", false).unwrap();
            let once = apply_as(Some(&live), &patch, "b", true).unwrap();
            let twice = apply_as(Some(&once), &patch, "b", false).unwrap();
            prop_assert_eq!(twice, once);
        }

        #[test]
        fn what_one_applies_is_there_afterwards(live in config(), patch in config()) {
            let live = apply_as(None, &live, "a", false).unwrap();
            let after = apply_as(Some(&live), &patch, "b", true).unwrap();
            // Laying the patch over the result changes nothing.
            let over = typed::merge(Type::of(ty(&deployment())), &after, &patch);
            prop_assert!(typed::same(&over, &after), "{} | {}", over, after);
        }

        #[test]
        fn one_manager_alone_gets_exactly_what_it_applied(first in config(), second in config()) {
            let live = apply_as(None, &first, "a", false).unwrap();
            let after = apply_as(Some(&live), &second, "a", false).unwrap();
            let fresh = apply_as(None, &second, "a", false).unwrap();
            let mut normal = [after, fresh];
            for object in &mut normal {
                cloudeck_schema::normalise(ty(&deployment()).unwrap(), object).unwrap();
            }
            prop_assert_eq!(&normal[0], &normal[1]);
        }

        #[test]
        fn every_field_on_record_is_there(base in config(), patch in config()) {
            let live = apply_as(None, &base, "a", false).unwrap();
            let shared = apply_as(Some(&live), &base, "b", false).unwrap();
            let after = apply_as(Some(&shared), &patch, "a", true).unwrap();
            let ty = Type::of(ty(&deployment()));
            let merged = typed::with_named_fields(ty, &typed::field_set(ty, &after));
            let entries = managed::decode(after.at(&["metadata", "managedFields"]), false).unwrap();
            for entry in entries {
                prop_assert!(entry.fields.clone().difference(&merged).paths().is_empty(), "{:?}", entry);
            }
        }
    }
}

#[test]
fn long_lists_take_no_time() {
    let map = |first: usize, owners: usize| {
        let owner = |n: usize| {
            let uid = format!("{n:06}");
            value!({"apiVersion": "v1", "kind": "A", "name": "a", "uid": (uid)})
        };
        let owners: Vec<Value> = (first..first + owners).map(owner).collect();
        value!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "ownerReferences": (owners)}})
    };
    // Each with each, these would be compared for minutes.
    let begun = std::time::Instant::now();
    let old = update_as(None, &map(0, 40_000), "a", NOW);
    let new = update_as(Some(&old), &map(20_000, 40_000), "b", NOW);
    assert_eq!(new.items_at(&["metadata", "ownerReferences"]).len(), 40_000);
    let applied = apply_as(Some(&map(0, 40_000)), &map(20_000, 40_000), "c", true).unwrap();
    assert_eq!(applied.items_at(&["metadata", "ownerReferences"]).len(), 60_000);
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}
