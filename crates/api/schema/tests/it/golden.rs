//! Every served kind's golden vectors: JSON → normalised → JSON and protobuf → JSON, byte-equal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cloudeck_machinery::json;
use cloudeck_schema::{
    TypeRef, group_versions, normalise, protobuf, resources, type_of_kind, unknown_fields, write_json,
};

/// The level that the tables were generated from.
const MODULE: &str = "k8s.io/api@v0.37.2";

/// The folder of the vectors. Go's own cache makes this a download only once per machine.
fn vectors() -> PathBuf {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        .current_dir(std::env::temp_dir())
        .output()
        .expect("a Go toolchain must be on PATH: the golden vectors come from a Go module");
    assert!(
        output.status.success(),
        "go mod download {MODULE}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer = json::parse(&output.stdout).unwrap();
    Path::new(answer.str_at(&["Dir"]).expect("the folder")).join("testdata/HEAD")
}

struct Vector {
    name: String,
    ty: TypeRef,
    json: Vec<u8>,
    protobuf: Vec<u8>,
}

/// The vectors of every kind of a served group version.
fn served_vectors() -> Vec<Vector> {
    let folder = vectors();
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        // GROUP.VERSION.KIND.json, where the group may have dots and the core group is called `core`.
        let Some(name) = name.strip_suffix(".json") else {
            continue;
        };
        let (rest, kind) = name.rsplit_once('.').unwrap();
        let (group, version) = rest.rsplit_once('.').unwrap();
        let group = if group == "core" { "" } else { group };
        if !group_versions().any(|info| info.group == group && info.version == version) {
            continue;
        }
        found.push(Vector {
            name: name.to_owned(),
            ty: type_of_kind(group, version, kind).unwrap_or_else(|| panic!("no type for {name}")),
            json: compact(&fs::read(&path).unwrap()),
            protobuf: fs::read(path.with_extension("pb")).unwrap(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 80, "only {} vectors", found.len());
    found
}

/// Removes the indentation of a text, keeping the order of its members.
fn compact(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for &byte in text {
        if inside || !byte.is_ascii_whitespace() {
            out.push(byte);
        }
        match byte {
            b'"' if !escaped => inside = !inside,
            b'\\' if inside && !escaped => {
                escaped = true;
                continue;
            }
            _ => {}
        }
        escaped = false;
    }
    out
}

/// Compares all results and shows where each unequal one first differs.
fn assert_equal(results: Vec<(String, Vec<u8>, Vec<u8>)>) {
    let total = results.len();
    let unequal: Vec<String> = results
        .into_iter()
        .filter(|(_, got, want)| got != want)
        .map(|(name, got, want)| {
            let at = got.iter().zip(&want).take_while(|(a, b)| a == b).count();
            let around = |text: &[u8]| {
                String::from_utf8_lossy(&text[at.saturating_sub(60)..text.len().min(at + 60)]).into_owned()
            };
            format!(
                "{name} at {at}:\n  got  {}\n  want {}",
                around(&got),
                around(&want)
            )
        })
        .collect();
    assert!(
        unequal.is_empty(),
        "{} of {total} differ\n{}",
        unequal.len(),
        unequal.join("\n")
    );
}

#[test]
fn every_json_vector_survives_normalisation_unchanged() {
    let results = served_vectors().into_iter().map(|vector| {
        let mut tree = json::parse(&vector.json).unwrap();
        assert!(unknown_fields(vector.ty, &tree).is_empty(), "{}", vector.name);
        normalise(vector.ty, &mut tree).unwrap_or_else(|errors| panic!("{}: {errors:?}", vector.name));
        let mut out = Vec::new();
        write_json(Some(vector.ty), &tree, &mut out);
        (vector.name, out, vector.json)
    });
    assert_equal(results.collect());
}

#[test]
fn every_protobuf_vector_becomes_its_json() {
    // A WatchEvent is no kind: its envelope names none, and it is never sent to a server.
    let results = served_vectors()
        .into_iter()
        .filter(|vector| vector.ty.is_kind())
        .map(|vector| {
            let (_, tree) = protobuf::decode_envelope(&vector.protobuf)
                .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
            let mut out = Vec::new();
            write_json(Some(vector.ty), &tree, &mut out);
            (vector.name, out, vector.json)
        });
    assert_equal(results.collect());
}

#[test]
fn every_served_resource_of_the_module_has_a_vector() {
    let vectors = served_vectors();
    // Declared in modules of their own, which have no vectors.
    let elsewhere = ["apiextensions.k8s.io", "apiregistration.k8s.io"];
    for info in resources().filter(|info| !elsewhere.contains(&info.group)) {
        let group = if info.group.is_empty() { "core" } else { info.group };
        let name = format!("{group}.{}.{}", info.version, info.kind);
        assert!(vectors.iter().any(|vector| vector.name == name), "{name}");
    }
}
