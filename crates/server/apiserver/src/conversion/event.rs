//! Events: `events.k8s.io/v1` renames half of the fields of core `v1`.

use cloudeck_machinery::Value;

/// `(core, events.k8s.io)`.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// `events.k8s.io/v1` → `v1`.
pub(super) fn to_core(tree: &mut Value) {
    rename(tree, |(core, renamed)| (renamed, core));
    // Go encodes these even when empty in v1.
    if let Some(map) = tree.as_object_mut() {
        for always in ["involvedObject", "source"] {
            if !map.contains_key(always) {
                map.insert(always, Value::object());
            }
        }
        for always in ["eventTime", "firstTimestamp", "lastTimestamp"] {
            map.get_or_insert_null(always);
        }
        for always in ["reportingComponent", "reportingInstance"] {
            if !map.contains_key(always) {
                map.insert(always, "".into());
            }
        }
    }
}

/// `v1` → `events.k8s.io/v1`.
pub(super) fn from_core(tree: &mut Value) {
    rename(tree, |(core, renamed)| (core, renamed));
    if let Some(map) = tree.as_object_mut() {
        for omitted in ["reportingController", "reportingInstance", "note"] {
            if map.get(omitted).and_then(Value::as_str) == Some("") {
                map.remove(omitted);
            }
        }
    }
}

fn rename(
    tree: &mut Value,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(map) = tree.as_object_mut() else {
        return;
    };
    for pair in RENAMED {
        let (from, to) = direction(pair);
        if let Some(value) = map.remove(from) {
            map.insert(to, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[test]
    fn an_event_keeps_its_content_under_the_other_names() {
        let mut tree = value!({"regarding": {"name": "p"}, "note": "n", "deprecatedCount": 3, "reason": "R"});
        to_core(&mut tree);
        assert_eq!(tree.str_at(&["involvedObject", "name"]), Some("p"));
        assert_eq!(
            (tree.str_at(&["message"]), tree.int_at(&["count"])),
            (Some("n"), Some(3))
        );
        from_core(&mut tree);
        assert_eq!(tree.str_at(&["regarding", "name"]), Some("p"));
        assert_eq!(tree.str_at(&["note"]), Some("n"));
    }
}
