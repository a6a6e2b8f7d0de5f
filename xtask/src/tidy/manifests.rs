//! Manifests inherit from the workspace; files have headers and names that say something.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Source;
use super::metadata::Package;

const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];
const VAGUE: [&str; 9] = [
    "common", "core", "helper", "helpers", "misc", "mod", "prelude", "util", "utils",
];

pub(super) fn check(root: &Path, packages: &[Package], sources: &[Source]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for package in packages {
        let path = root.join(&package.manifest_path);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        check_manifest(&package.manifest_path.to_string_lossy(), &text, &mut complaints);
    }
    for source in sources {
        check_source(source, &mut complaints);
    }
    Ok(complaints)
}

fn check_manifest(path: &str, text: &str, complaints: &mut Vec<String>) {
    for key in INHERITED {
        if !text.contains(&format!("\n{key}.workspace = true\n")) {
            complaints.push(format!("{path}: {key} is not inherited from the workspace"));
        }
    }
    if !text.contains("\n[lints]\nworkspace = true\n") {
        complaints.push(format!("{path}: the workspace's lints are not inherited"));
    }
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && !line.is_empty()
            && !line.starts_with('#')
            && !line.contains("workspace = true")
        {
            complaints.push(format!("{path}: `{line}` is not inherited from the workspace"));
        }
    }
}

fn check_source(source: &Source, complaints: &mut Vec<String>) {
    let path = &source.path;
    if source.is_test() {
        return;
    }
    let first = source
        .text
        .lines()
        .find(|line| !line.is_empty() && !line.starts_with("#!"))
        .unwrap_or_default();
    if !first.starts_with("//!") {
        complaints.push(format!("{path}: no header that says what the file is for"));
    }
    let vague = path
        .split('/')
        .find(|part| VAGUE.contains(&part.trim_end_matches(".rs")));
    if let Some(part) = vague {
        complaints.push(format!("{path}: the name {part} says nothing"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_of_its_own_mind_is_told() {
        let text = "[package]\nname = \"a\"\nversion = \"1\"\nedition.workspace = true\nrust-version.workspace = true\n\
            license.workspace = true\npublish.workspace = true\n\n[dependencies]\nserde = \"1\"\n# why\nhttp.workspace = true\n";
        let mut complaints = Vec::new();
        check_manifest("a/Cargo.toml", text, &mut complaints);
        assert_eq!(
            complaints,
            [
                "a/Cargo.toml: version is not inherited from the workspace",
                "a/Cargo.toml: the workspace's lints are not inherited",
                "a/Cargo.toml: `serde = \"1\"` is not inherited from the workspace",
            ]
        );
    }

    #[test]
    fn vague_names_and_missing_headers_are_told() {
        let source = |path: &str, text: &str| Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let mut complaints = Vec::new();
        check_source(&source("crates/a/src/util.rs", "//! Things.\n"), &mut complaints);
        check_source(&source("crates/a/src/b.rs", "use x;\n"), &mut complaints);
        check_source(&source("crates/a/src/b/tests.rs", "use x;\n"), &mut complaints);
        assert_eq!(
            complaints,
            [
                "crates/a/src/util.rs: the name util.rs says nothing",
                "crates/a/src/b.rs: no header that says what the file is for",
            ]
        );
    }
}
