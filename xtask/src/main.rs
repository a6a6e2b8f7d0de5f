//! Developer tasks: `cargo xtask tidy|codegen`.

mod codegen;

use std::path::PathBuf;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("codegen") => codegen::run(&root()),
        _ => bail!("usage: cargo xtask codegen"),
    }
}

/// The workspace's root: this package's parent.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
