use cloudeck_machinery::value;

use super::*;

fn entry(manager: &str, version: &str, time: &str) -> Entry {
    Entry {
        manager: manager.into(),
        applied: false,
        api_version: version.into(),
        subresource: Key::default(),
        time: Some(time.into()),
        fields: FieldSet::of_paths(&[&[manager]]),
    }
}

#[test]
fn the_oldest_updaters_of_a_version_are_merged_until_ten_are_left() {
    let mut entries: Vec<Entry> = (0..12)
        .map(|i| entry(&format!("m{i:02}"), "v1", &format!("2026-01-01T00:00:{i:02}Z")))
        .collect();
    entries.push(Entry {
        applied: true,
        ..entry("applier", "v1", "2026-01-01T00:00:00Z")
    });
    cap_updaters(&mut entries);
    assert_eq!(entries.len(), 11);
    let ancient = entries.iter().find(|entry| entry.manager == ANCIENT).unwrap();
    assert_eq!(ancient.time.as_deref(), Some("2026-01-01T00:00:02Z"));
    assert_eq!(ancient.fields.paths(), [".m00", ".m01", ".m02"]);
    assert!(
        entries
            .iter()
            .any(|entry| entry.applied && entry.manager == "applier")
    );
    // One more joins the same bucket.
    entries.push(entry("m12", "v1", "2026-01-01T00:00:12Z"));
    cap_updaters(&mut entries);
    let ancient: Vec<_> = entries.iter().filter(|entry| entry.manager == ANCIENT).collect();
    assert_eq!(ancient.len(), 1);
    assert_eq!(ancient[0].fields.paths(), [".m00", ".m01", ".m02", ".m03"]);
}

#[test]
fn entries_are_sorted_and_survive_their_wire_form() {
    let mut object = value!({"metadata": {}});
    let mut applier = Entry {
        applied: true,
        ..entry("z", "v1", "2026-01-01T00:00:09Z")
    };
    applier.subresource = "status".into();
    encode(
        vec![
            entry("b", "v1", "2026-01-01T00:00:01Z"),
            entry("a", "v1", "2026-01-01T00:00:01Z"),
            applier,
        ],
        &mut object,
    );
    let managers: Vec<_> = object
        .items_at(&["metadata", "managedFields"])
        .iter()
        .map(|e| e.str_at(&["manager"]))
        .collect();
    assert_eq!(managers, [Some("z"), Some("a"), Some("b")]);
    assert_eq!(
        object.items_at(&["metadata", "managedFields"])[0].to_string(),
        r#"{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:z":{}},"manager":"z","operation":"Apply","subresource":"status","time":"2026-01-01T00:00:09Z"}"#
    );
    let again = decode(object.at(&["metadata", "managedFields"]), false).unwrap();
    let mut copy = value!({"metadata": {}});
    encode(again, &mut copy);
    assert_eq!(copy, object);
    encode(Vec::new(), &mut copy);
    assert_eq!(copy, value!({"metadata": {}}));
}

#[test]
fn malformed_entries_are_refused_in_upstreams_words() {
    for (bad, why) in [
        (
            value!([{"operation": "Patch"}]),
            "operation must be `Apply` or `Update`",
        ),
        (value!([{"operation": "Apply"}]), "apiVersion must not be empty"),
        (
            value!([{"operation": "Apply", "apiVersion": "v1"}]),
            "missing fieldsType in managed fields entry 0",
        ),
    ] {
        assert_eq!(decode(Some(&bad), false).unwrap_err(), why);
    }
    assert!(is_reset(&value!([])) && is_reset(&value!([{}])) && !is_reset(&value!([{"manager": "a"}])));
}
