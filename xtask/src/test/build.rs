//! One compilation of everything that is run: test programs and binaries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What cargo built.
pub(crate) struct Artifacts {
    pub(crate) tests: Vec<TestProgram>,
    binaries: Vec<(String, PathBuf)>,
}

/// A program that holds tests.
#[derive(Debug)]
pub(crate) struct TestProgram {
    /// The package it tests.
    pub(crate) package: String,
    /// The folder of the package, where it is run.
    pub(crate) folder: PathBuf,
    pub(crate) executable: PathBuf,
    /// What cargo calls it: the crate's name, or `it`.
    name: String,
    integration: bool,
}

const END_TO_END: &str = "cloudeck-e2e";

impl TestProgram {
    /// The tests within a crate's sources.
    pub(crate) fn is_unit(&self) -> bool {
        !self.integration
    }

    /// The tests of a crate against the world: the kernel, the disk, sockets.
    pub(crate) fn is_integration(&self) -> bool {
        self.integration && self.package != END_TO_END
    }

    /// The tests of the product.
    pub(crate) fn is_end_to_end(&self) -> bool {
        self.integration && self.package == END_TO_END
    }
}

impl Artifacts {
    pub(crate) fn binary(&self, name: &str) -> Result<&Path> {
        let found = self.binaries.iter().find(|(binary, _)| binary == name);
        Ok(&found
            .with_context(|| format!("the build has no binary {name}"))?
            .1)
    }

    pub(crate) fn integration(&self, package: &str) -> Result<&Path> {
        let found = self
            .tests
            .iter()
            .find(|test| test.integration && test.name == "it" && test.package == package);
        Ok(&found
            .with_context(|| format!("the build has no integration tests of {package}"))?
            .executable)
    }
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the workspace in the development profile.
pub(crate) fn build(root: &Path) -> Result<Artifacts> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--message-format=json-render-diagnostics",
    ]);
    let done = command
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(done.status.success(), "cargo ended with {}", done.status);
    parse(&String::from_utf8_lossy(&done.stdout))
}

fn parse(messages: &str) -> Result<Artifacts> {
    let mut artifacts = Artifacts {
        tests: Vec::new(),
        binaries: Vec::new(),
    };
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).context("understand cargo's messages")?;
        if message.reason == "compiler-artifact" {
            artifacts.add(message);
        }
    }
    artifacts
        .tests
        .sort_by(|a, b| (&a.package, a.integration).cmp(&(&b.package, b.integration)));
    Ok(artifacts)
}

impl Artifacts {
    fn add(&mut self, message: Message) {
        let Message {
            target: Some(target),
            profile: Some(profile),
            executable: Some(executable),
            ..
        } = message
        else {
            return;
        };
        if !profile.test {
            self.binaries.push((target.name, executable));
            return;
        }
        let folder = message
            .manifest_path
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new("."));
        self.tests.push(TestProgram {
            package: package_name(folder),
            folder: folder.to_owned(),
            executable,
            name: target.name,
            integration: target.kind.iter().any(|kind| kind == "test"),
        });
    }
}

/// Packages are called as their folder, with `cloudeck-` before.
fn package_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if name == "xtask" || name == "cloudeck" {
        name.into_owned()
    } else {
        format!("cloudeck-{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_cargo_become_programs_and_binaries() {
        let artifact = |name: &str, kind: &str, test: bool, executable: &str| {
            serde_json::json!({
                "reason": "compiler-artifact", "manifest_path": "/w/crates/node/runtime/Cargo.toml",
                "target": { "name": name, "kind": [kind] }, "profile": { "test": test }, "executable": executable,
            })
            .to_string()
        };
        let lines = [
            artifact("shimhost", "test", true, "/t/shimhost-1"),
            artifact("it", "test", true, "/t/it-1"),
            artifact("cloudeck_runtime", "lib", true, "/t/runtime-1"),
            artifact("cloudeck-shimhost", "bin", false, "/t/cloudeck-shimhost"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let artifacts = parse(&lines.join("\n")).unwrap();
        assert_eq!(
            artifacts.binary("cloudeck-shimhost").unwrap(),
            Path::new("/t/cloudeck-shimhost")
        );
        assert_eq!(
            artifacts.integration("cloudeck-runtime").unwrap(),
            Path::new("/t/it-1")
        );
        assert!(artifacts.tests.iter().any(TestProgram::is_unit));
        assert!(!artifacts.tests.iter().any(TestProgram::is_end_to_end));
    }
}
