//! The lane for cgroup version 2: Debian's cloud kernel under QEMU's software emulation.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::build::Artifacts;
use super::{Tally, program};

/// Whose root tests ask for something of the kernel that differs between versions: control groups, mounts, nftables, the
/// order of its news.
const TESTED: [&str; 4] = [
    "cloudeck-runtime",
    "cloudeck-agent",
    "cloudeck-network",
    "cloudeck-proxy",
];
/// What they become shims with.
const SHIMS: [&str; 2] = ["cloudeck-shimhost", "cloudeck-agent-shimhost"];

/// Boots the machine, runs root tests and the product in it, and reads the results off its console.
pub(crate) fn run(root: &Path, artifacts: &Artifacts) -> Result<Tally> {
    let script = root.join("crates/node/runtime/tests/cgroup2/run.sh");
    let mut command = Command::new(script);
    let tests = TESTED.map(|package| artifacts.integration(package));
    command.env(
        "CLOUDECK_LANE_TESTS",
        joined(tests.into_iter().collect::<Result<_>>()?),
    );
    let shims = SHIMS.map(|name| artifacts.binary(name));
    command.env(
        "CLOUDECK_LANE_SHIMS",
        joined(shims.into_iter().collect::<Result<_>>()?),
    );
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

fn joined(paths: Vec<&Path>) -> OsString {
    let paths: Vec<&OsStr> = paths.into_iter().map(Path::as_os_str).collect();
    paths.join(OsStr::new(" "))
}
