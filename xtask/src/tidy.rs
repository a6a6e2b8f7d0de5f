//! `cargo xtask tidy`: the rules of the house that a machine can check, also run as a test.
//!
//! Layers, from `cargo metadata` ([`layers`]); sizes of files and functions, as a ratchet ([`sizes`]); manifests and file
//! names ([`manifests`]). Each checker returns sentences; no sentences, no complaint.

mod layers;
mod lexer;
mod manifests;
mod metadata;
mod sizes;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Checks the workspace. With `update`, the ratchet is first tightened to today's sizes.
pub(crate) fn run(root: &Path, update: bool) -> Result<()> {
    let complaints = check(root, update)?;
    if complaints.is_empty() {
        return Ok(());
    }
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    bail!("{} complaints", complaints.len())
}

fn check(root: &Path, update: bool) -> Result<Vec<String>> {
    let packages = metadata::read(root)?;
    let sources = Source::read_all(root)?;
    let mut complaints = layers::check(&packages);
    complaints.extend(manifests::check(root, &packages, &sources)?);
    complaints.extend(sizes::check(root, &sources, update)?);
    Ok(complaints)
}

/// A Rust file of the workspace.
struct Source {
    /// Relative to the root, with slashes.
    path: String,
    text: String,
}

impl Source {
    fn read_all(root: &Path) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for folder in ["crates", "testing", "xtask", "fuzz"] {
            let folder = root.join(folder);
            if folder.is_dir() {
                collect(root, &folder, &mut found)?;
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Test code has no limits: files called `tests.rs` and everything below a folder `tests` or `benches`.
    fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
    }

    /// The text before the test module at the end.
    fn without_tests(&self) -> &str {
        let end = self
            .text
            .find("\n#[cfg(test)]\nmod tests")
            .map_or(self.text.len(), |at| at + 1);
        &self.text[..end]
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path: PathBuf = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(root, &path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let path = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            found.push(Source { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_is_tidy() {
        let complaints = super::check(&crate::root(), false).unwrap();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
