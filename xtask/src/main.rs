//! Developer tasks: `cargo xtask tidy|codegen`.

fn main() {}
