//! `cargo xtask up`: the product built, a cluster on this machine, and a demo on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools;

/// Builds the release binary and returns where it is.
///
/// # Errors
/// When it does not compile.
pub(crate) fn release(root: &Path) -> Result<PathBuf> {
    let arguments = [
        "build",
        "--release",
        "--package",
        "cloudeck",
        "--message-format=json-render-diagnostics",
    ];
    let mut cargo = Command::new("cargo");
    cargo
        .args(arguments)
        .current_dir(root)
        .stderr(std::process::Stdio::inherit());
    let messages = tools::output(&mut cargo).context("build the release binary")?;
    let text = String::from_utf8_lossy(&messages);
    let executable = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| {
            let is_ours = message["target"]["name"] == "cloudeck" && message["reason"] == "compiler-artifact";
            message["executable"]
                .as_str()
                .filter(|_| is_ours)
                .map(PathBuf::from)
        });
    executable.context("cargo did not say where the binary is")
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
