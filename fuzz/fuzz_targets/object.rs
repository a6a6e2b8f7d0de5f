//! Any tree as a pod, service or deployment: normalising ends, and doing it twice changes nothing more.
#![no_main]

use cloudeck_machinery::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(tree) = json::parse(bytes) else { return };
    for (group, kind) in [("", "Pod"), ("", "Service"), ("apps", "Deployment")] {
        let Some(ty) = cloudeck_schema::type_of_kind(group, "v1", kind) else {
            continue;
        };
        let _ = cloudeck_schema::unknown_fields(ty, &tree);
        let mut object = tree.clone();
        if cloudeck_schema::normalise(ty, &mut object).is_err() {
            continue;
        }
        let mut again = object.clone();
        cloudeck_schema::normalise(ty, &mut again).expect("what is normal can be normalised");
        assert_eq!(again, object);
        cloudeck_schema::apply_defaults(ty, &mut object);
        let _ = cloudeck_schema::declarative_errors(ty, &object, Some(&again));
        let mut text = Vec::new();
        cloudeck_schema::write_json(Some(ty), &object, &mut text);
        assert_eq!(json::parse(&text).as_ref(), Ok(&object));
    }
});
