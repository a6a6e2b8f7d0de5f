//! Developer tasks: `cargo xtask up|test|bench|check|tidy|codegen`.

mod bench;
mod codegen;
mod codegen_rbac;
mod test;
mod tidy;
mod tools;
mod up;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("codegen") => {
            codegen::run(&root())?;
            codegen_rbac::run(&root())
        }
        Some("tidy") => tidy::run(&root(), arguments.get(1).is_some_and(|flag| flag == "--update")),
        Some("test") => return test::run(&root(), &arguments[1..]),
        Some("up") => up::run(&root()),
        Some("bench") => bench::run(&root(), &arguments[1..]),
        Some("check") => check(&root()),
        _ => bail!(
            "usage: cargo xtask codegen | tidy [--update] | test [STAGE…] | up | bench [--quick] [GROUP…] | check"
        ),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// What needs no machine: formatting, lints, the rules of the house; fuzz targets where a C++ compiler is installed,
/// licences where cargo-deny is.
fn check(root: &Path) -> Result<()> {
    let cargo = |arguments: &[&str]| tools::run(Command::new("cargo").args(arguments).current_dir(root));
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    tidy::run(root, false)?;
    let is_there = |program: &str, arguments: &[&str]| {
        let asked = Command::new(program).args(arguments).output();
        asked.is_ok_and(|done| done.status.success())
    };
    // The fuzzer's library is C++.
    if is_there("c++", &["--version"]) {
        cargo(&["check", "--manifest-path", "fuzz/Cargo.toml"])?;
    } else {
        eprintln!("no C++ compiler is installed: fuzz targets not checked");
    }
    if is_there("cargo", &["deny", "--version"]) {
        cargo(&["deny", "check", "licenses", "bans", "sources"])?;
    } else {
        eprintln!("cargo-deny is not installed: licences and bans not checked");
    }
    Ok(())
}

/// The workspace's root: this package's parent.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
