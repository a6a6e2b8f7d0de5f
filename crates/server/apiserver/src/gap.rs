//! Temporary: what the schema and patch crates will provide.
use cloudeck_machinery::{Cause, Value, json};
use cloudeck_schema::TypeRef;

pub(crate) fn normalise(_: TypeRef, _: &mut Value) -> Result<(), Vec<String>> {
    Ok(())
}
pub(crate) fn unknown_fields(_: TypeRef, _: &Value) -> Vec<String> {
    Vec::new()
}
pub(crate) fn apply_defaults(_: TypeRef, _: &mut Value) {}
pub(crate) fn declarative_errors(_: TypeRef, _: &Value, _: Option<&Value>) -> Vec<Cause> {
    Vec::new()
}
pub(crate) fn write_json(_: Option<TypeRef>, tree: &Value, out: &mut Vec<u8>) {
    write(tree, &["kind", "apiVersion", "metadata"], out);
}
fn write(tree: &Value, first: &[&str], out: &mut Vec<u8>) {
    let Some(map) = tree.as_object() else {
        json::write(tree, out);
        return;
    };
    out.push(b'{');
    let mut comma = false;
    let mut one = |key: &str, value: &Value, out: &mut Vec<u8>| {
        if comma {
            out.push(b',');
        }
        comma = true;
        json::write_string(key, out);
        out.push(b':');
        if key == "metadata" {
            write(
                value,
                &["name", "generateName", "namespace", "uid", "resourceVersion"],
                out,
            );
        } else {
            json::write(value, out);
        }
    };
    for key in first {
        if let Some(value) = map.get(key) {
            one(key, value, out);
        }
    }
    for (key, value) in map.iter() {
        if !first.contains(&key.as_str()) {
            one(key, value, out);
        }
    }
    out.push(b'}');
}
