//! The lane for cgroup version 2: Debian's cloud kernel under QEMU's software emulation.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::build::Artifacts;
use super::{Tally, program};

/// Boots the machine, runs the runtime's root tests and the product in it, and reads the results off its console.
pub(crate) fn run(root: &Path, artifacts: &Artifacts) -> Result<Tally> {
    let script = root.join("crates/node/runtime/tests/cgroup2/run.sh");
    let mut command = Command::new(script);
    command.env("CLOUDECK_LANE_TESTS", artifacts.integration("cloudeck-runtime")?);
    command.env("CLOUDECK_LANE_SHIM", artifacts.binary("cloudeck-shimhost")?);
    command.env("CLOUDECK_LANE_PRODUCT", artifacts.binary("cloudeck")?);
    let done = command
        .stdin(Stdio::null())
        .output()
        .context("run the lane's script")?;
    let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    let tally = program::judge(&text, done.status.success());
    if tally.failed > 0 || tally.passed == 0 {
        println!("{text}");
    }
    Ok(if tally.passed == 0 && tally.failed == 0 {
        Tally { passed: 0, failed: 1 }
    } else {
        tally
    })
}
