//! Runs one test program and reads its results.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Tally;
use super::build::TestProgram;

/// Runs it to the end, or kills it at the limit: what tests start ends with them or is cleared by the next run. Its output is shown when something failed.
pub(crate) fn run(
    program: &TestProgram,
    arguments: &[&str],
    environment: &[(&str, OsString)],
    limit: Duration,
) -> Tally {
    let begun = Instant::now();
    let (text, ended_well) = match start(program, arguments, environment) {
        Ok(child) => finish(child, limit),
        Err(error) => (
            format!("cannot start {}: {error}", program.executable.display()),
            false,
        ),
    };
    let tally = judge(&text, ended_well);
    let kind = if program.is_unit() { "unit" } else { "integration" };
    let seconds = begun.elapsed().as_secs_f32();
    if tally.failed > 0 {
        println!("{text}");
    }
    if tally != Tally::default() {
        println!(
            "  {:<22} {kind:<12} {seconds:6.1} s {:5} passed, {} failed",
            program.package, tally.passed, tally.failed
        );
    }
    tally
}

struct Running {
    child: Child,
    output: mpsc::Receiver<String>,
}

fn start(
    program: &TestProgram,
    arguments: &[&str],
    environment: &[(&str, OsString)],
) -> std::io::Result<Running> {
    let mut command = Command::new(&program.executable);
    command
        .args(arguments)
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    // Both streams into one pipe, so that they stay in order.
    let (mut reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let child = command.spawn()?;
    drop(command);
    // Enough that a program seldom waits for its reader.
    let (sender, output) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            if sender
                .send(String::from_utf8_lossy(&buffer[..length]).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    Ok(Running { child, output })
}

fn finish(mut running: Running, limit: Duration) -> (String, bool) {
    let deadline = Instant::now() + limit;
    let mut text = String::new();
    loop {
        match running.output.recv_timeout(Duration::from_millis(200)) {
            Ok(part) => text.push_str(&part),
            // Whoever else still holds the pipe does not matter once the program has ended and said its result.
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Ok(Some(status)) = running.child.try_wait() {
                    text.extend(running.output.try_iter());
                    return (text, status.success());
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = running.child.wait();
                return (text, status.is_ok_and(|status| status.success()));
            }
        }
        if Instant::now() >= deadline {
            let _ = running.child.kill();
            let _ = running.child.wait();
            let _ = writeln!(text, "\nkilled after {} s", limit.as_secs());
            return (text, false);
        }
    }
}

/// Adds up the result lines. A program that ended badly without telling of a failed test is one failure.
pub(super) fn judge(text: &str, ended_well: bool) -> Tally {
    let mut tally = Tally::default();
    for line in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("test result: "))
    {
        let number = |what: &str| {
            let part = line
                .split([';', '.'])
                .map(str::trim)
                .find(|part| part.ends_with(what));
            part.and_then(|part| part.split(' ').next()?.parse().ok())
                .unwrap_or(0)
        };
        tally += Tally {
            passed: number(" passed"),
            failed: number(" failed"),
        };
    }
    if !ended_well && tally.failed == 0 {
        tally.failed = 1;
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_a_crash_is_a_failure() {
        let ok = "running 2 tests\n\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(judge(ok, true), Tally { passed: 2, failed: 0 });
        assert_eq!(judge(ok, false), Tally { passed: 2, failed: 1 });
        let bad = "test result: FAILED. 41 passed; 3 failed; 0 ignored\n";
        assert_eq!(
            judge(&format!("{ok}{bad}"), false),
            Tally {
                passed: 43,
                failed: 3
            }
        );
        assert_eq!(judge("Segmentation fault", false), Tally { passed: 0, failed: 1 });
    }
}
