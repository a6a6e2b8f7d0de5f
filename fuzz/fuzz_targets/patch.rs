//! Patches of all three kinds on a pod; the first byte says which.
#![no_main]

use cloudeck_machinery::{Value, json};
use libfuzzer_sys::fuzz_target;

const POD: &[u8] = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"a":"b"},"finalizers":["x/y"]},
"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"A","value":"1"},{"name":"B","value":"2"}],
"ports":[{"containerPort":80,"protocol":"TCP"}]}],"volumes":[{"name":"v","emptyDir":{}}],
"tolerations":[{"key":"k","operator":"Exists"}]}}"#;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, patch)) = bytes.split_first() else {
        return;
    };
    let Ok(patch) = json::parse(patch) else { return };
    let mut pod: Value = json::parse(POD).expect("the pod is JSON");
    match which % 3 {
        0 => drop(cloudeck_patch::json_patch::apply(&mut pod, &patch)),
        1 => drop(cloudeck_patch::merge_patch::apply(&mut pod, patch)),
        _ => {
            let ty = cloudeck_schema::type_of_kind("", "v1", "Pod").expect("pods have a schema");
            drop(cloudeck_patch::strategic::apply(ty, &mut pod, patch));
        }
    }
});
