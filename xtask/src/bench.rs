//! `cargo xtask bench [--quick] [GROUP…]`: builds what is measured and what measures, and runs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools::{self, Package};
use crate::up;

/// Other runtimes, measured in the same run.
const PEERS: [Package; 2] = [
    Package {
        name: "crun",
        shown_by: "/usr/bin/crun",
    },
    Package {
        name: "runc",
        shown_by: "/usr/sbin/runc",
    },
];

/// Prints the table on standard output; `arguments` go to the measuring program.
///
/// # Errors
/// When something cannot be built, or the measuring stops.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    tools::ensure_packages(&[tools::BUSYBOX])?;
    if let Err(error) = tools::ensure_packages(&PEERS) {
        // Their cells say then that they were not measured.
        eprintln!("{error:#}");
    }
    let product = up::release(root)?;
    let measure = up::release_of(root, "cloudeck-bench")?;
    tools::run(Command::new(measure).arg(product).args(arguments)).context("measure")
}
