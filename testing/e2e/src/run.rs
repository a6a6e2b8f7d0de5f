//! Programs that are run to their end.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, ExitStatus, Stdio};

/// How a program ended.
#[derive(Debug)]
pub struct Done {
    what: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Done {
    run_with(command, None)
}

/// Runs a command to its end, with a text for its standard input.
pub(crate) fn run_with(command: &mut Command, stdin: Option<&str>) -> Done {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // What stands before `--` is how the machine is entered.
    let begin = words.iter().position(|word| word == "--").map_or(0, |at| at + 1);
    let what = words[begin..].join(" ");
    if stdin.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(text) = stdin {
        // Whoever does not read it all says why in its exit code.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Done {
        what,
        status: output.status,
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

impl Done {
    /// What it wrote to standard output.
    ///
    /// # Panics
    /// Unless it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }

    /// What it wrote to standard error.
    ///
    /// # Panics
    /// Unless it failed.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.status.success(), "{self}");
        self.stderr
    }

    /// As a value for [`crate::eventually`].
    ///
    /// # Errors
    /// When it failed, or wrote something in which `text` does not appear.
    pub fn says(self, text: &str) -> Result<String, String> {
        if self.status.success() && self.stdout.contains(text) {
            Ok(self.stdout)
        } else {
            Err(self.to_string())
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            status,
            stdout,
            stderr,
        } = self;
        write!(f, "`{what}` ended with {status}\n{stdout}\n{stderr}")
    }
}
