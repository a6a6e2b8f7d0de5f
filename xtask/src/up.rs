//! `cargo xtask up`: the product built, a cluster on this machine, and a demo on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tools;

/// Builds the product as it is shipped and returns where it is.
///
/// # Errors
/// When it does not compile.
pub(crate) fn release(root: &Path) -> Result<PathBuf> {
    build(root, "cloudeck", &["--features", "explain"])
}

/// Builds a package in the release profile, and returns where its program is.
///
/// # Errors
/// When it does not compile.
pub(crate) fn release_of(root: &Path, package: &str) -> Result<PathBuf> {
    build(root, package, &[])
}

fn build(root: &Path, package: &str, flags: &[&str]) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--release",
        "--message-format=json-render-diagnostics",
        "--package",
        package,
    ]);
    let messages = cargo
        .args(flags)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    ensure!(messages.status.success(), "{package} does not compile");
    let text = String::from_utf8_lossy(&messages.stdout);
    let artifacts = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = artifacts.filter_map(|artifact| artifact["executable"].as_str().map(PathBuf::from));
    programs
        .next_back()
        .with_context(|| format!("cargo did not say where the program of {package} is"))
}

/// Builds, starts, deploys; the last line of standard output is the demo's URL.
///
/// # Errors
/// When one of these fails.
pub(crate) fn run(root: &Path) -> Result<()> {
    let cloudeck = release(root)?;
    tools::run(Command::new(&cloudeck).args(["up", "--detach"])).context("start the cluster")?;
    eprintln!("The binary is {}.", cloudeck.display());
    tools::run(Command::new(&cloudeck).arg("demo")).context("deploy the demo")
}
