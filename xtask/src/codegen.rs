//! `cargo xtask codegen`: the facts of Kubernetes' API, from ordinary registry packages into committed tables.
//!
//! Go modules → declarations ([`sources`]) → one joined model ([`model`]) → `crates/api/schema/tables` ([`blob`],
//! [`resources`]). Facts only: names, types, tags, markers, verbs; no prose. Reading order as listed.

mod blob;
mod model;
mod resources;
mod sources;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Regenerates every committed table.
pub(crate) fn run(root: &Path) -> Result<()> {
    let modules = sources::Modules::download()?;
    let discovery = resources::read_discovery(&modules)?;
    let packages = sources::dump_packages(&modules, &discovery)?;
    let model = model::build(&packages, &discovery)?;
    let tables = root.join("crates/api/schema/tables");
    fs::create_dir_all(&tables).with_context(|| format!("creating {}", tables.display()))?;
    let blob = blob::write(&model)?;
    let resources = resources::write(&discovery, &packages)?;
    for (name, bytes) in [
        ("types.bin", blob.types.as_slice()),
        ("strings.txt", blob.strings.as_bytes()),
        ("resources.txt", resources.as_bytes()),
    ] {
        let path = tables.join(name);
        fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("{}: {} bytes", path.display(), bytes.len());
    }
    eprintln!("{} types, {} fields", model.types.len(), model.field_count());
    Ok(())
}
