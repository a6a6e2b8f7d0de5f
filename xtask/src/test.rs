//! `cargo xtask test [STAGE…]`: the whole test suite, in stages that each print their seconds.
//!
//! Everything is compiled once, by one cargo; the test programs are then run one by one, so that their results can be
//! added up and none hides another. The last line is `N passed, N failed`. A stage that cannot run is a failure.

mod build;
mod lane;
mod program;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{tools, up};
use build::{Artifacts, TestProgram};

/// What tests did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

const STAGES: [&str; 5] = ["unit", "root", "e2e", "cgroup2", "release"];

/// The end-to-end tests of the shipped binary; the rest are run with the one of the development profile.
const OF_RELEASE: &str = "release::";

/// Runs the stages named, or all.
///
/// # Errors
/// When a stage is unknown. Failed tests are told by the exit code.
pub(crate) fn run(root: &Path, stages: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = stages.iter().find(|stage| !STAGES.contains(&stage.as_str())) {
        bail!("unknown stage {unknown:?}; there are {}", STAGES.join(", "));
    }
    let mut suite = Suite {
        total: Tally::default(),
    };
    suite.run(root, &|stage| {
        stages.is_empty() || stages.iter().any(|wanted| wanted == stage)
    });
    let Tally { passed, failed } = suite.total;
    // The last line of standard output, whatever standard error still holds.
    println!("{passed} passed, {failed} failed");
    // Nothing is said after that: the exit code tells.
    Ok(if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

struct Suite {
    total: Tally,
}

impl Suite {
    fn run(&mut self, root: &Path, wanted: &dyn Fn(&str) -> bool) {
        let Some(go) = self.stage("tools", || {
            tools::ensure_packages(&[tools::BUSYBOX, tools::PROCPS, tools::QEMU])?;
            Ok((tools::ensure_go()?, Tally::default()))
        }) else {
            return;
        };
        let Some(artifacts) = self.stage("build", || Ok((build::build(root)?, Tally::default()))) else {
            return;
        };
        let path = tools::path_with(go.as_deref());
        let environment = [("PATH", path.clone())];
        for (stage, is_in) in [
            ("unit", TestProgram::is_unit as fn(&_) -> _),
            ("root", TestProgram::is_integration),
        ] {
            if wanted(stage) {
                self.stage(stage, || {
                    Ok(((), run_programs(&artifacts, is_in, &[], &environment)))
                });
            }
        }
        let end_to_end = |binary: &Path, arguments: &[&str]| {
            let kubectl = tools::ensure_kubectl(go.as_deref())?;
            let environment = [
                ("PATH", path.clone()),
                ("CLOUDECK_BIN", binary.into()),
                ("CLOUDECK_KUBECTL", kubectl.into()),
            ];
            let is_in = TestProgram::is_end_to_end;
            Ok(((), run_programs(&artifacts, is_in, arguments, &environment)))
        };
        if wanted("e2e") {
            self.stage("e2e", || {
                end_to_end(artifacts.binary("cloudeck")?, &["--skip", OF_RELEASE])
            });
        }
        if wanted("cgroup2") {
            self.stage("cgroup2", || Ok(((), lane::run(root, &artifacts)?)));
        }
        if wanted("release") {
            self.stage("release", || end_to_end(&up::release(root)?, &[OF_RELEASE]));
        }
    }

    /// Runs one stage and prints how long it took. A stage that cannot run counts as one failure.
    fn stage<T>(&mut self, name: &str, action: impl FnOnce() -> Result<(T, Tally)>) -> Option<T> {
        let begun = Instant::now();
        let (value, tally) = match action() {
            Ok((value, tally)) => (Some(value), tally),
            Err(error) => {
                println!("stage {name} could not run: {error:#}");
                (None, Tally { passed: 0, failed: 1 })
            }
        };
        self.total += tally;
        let seconds = begun.elapsed().as_secs_f32();
        println!(
            "stage {name}: {seconds:.0} s, {} passed, {} failed",
            tally.passed, tally.failed
        );
        value
    }
}

fn run_programs(
    artifacts: &Artifacts,
    is_in: fn(&TestProgram) -> bool,
    arguments: &[&str],
    environment: &[(&str, std::ffi::OsString)],
) -> Tally {
    /// Far longer than any program takes: one that hangs shall not hold up the others for ever.
    const LIMIT: Duration = Duration::from_mins(15);
    let mut tally = Tally::default();
    for program in artifacts.tests.iter().filter(|program| is_in(program)) {
        tally += program::run(program, arguments, environment, LIMIT);
    }
    tally
}
