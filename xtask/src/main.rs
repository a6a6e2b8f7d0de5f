//! Developer tasks: `cargo xtask tidy|codegen`.

mod codegen;
mod codegen_rbac;
mod tidy;

use std::path::PathBuf;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("codegen") => {
            codegen::run(&root())?;
            codegen_rbac::run(&root())
        }
        Some("tidy") => tidy::run(&root(), arguments.get(1).is_some_and(|flag| flag == "--update")),
        _ => bail!("usage: cargo xtask codegen | tidy [--update]"),
    }
}

/// The workspace's root: this package's parent.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
