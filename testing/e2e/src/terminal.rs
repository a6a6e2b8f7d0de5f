//! A program at a terminal, as a person sits at it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::PATIENCE;

/// A running program and the other side of its terminal.
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: mpsc::Receiver<String>,
    seen: String,
    last: String,
}

impl Terminal {
    /// Starts the command at a new terminal of 120 columns and 40 rows.
    pub fn start(command: Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        resize(&ours, 120, 40);
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        // The terminal becomes the controlling one of a new session.
        let mut wrapped = Command::new("setsid");
        wrapped
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        let side = || Stdio::from(theirs.try_clone().unwrap());
        let child = wrapped
            .env("TERM", "xterm")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .unwrap();
        let keyboard = File::from(ours);
        Self {
            child,
            screen: watch(keyboard.try_clone().unwrap()),
            keyboard,
            seen: String::new(),
            last: String::new(),
        }
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Changes the size of the window.
    pub fn resize(&self, columns: u16, rows: u16) {
        resize(&self.keyboard, columns, rows);
    }

    /// Waits until `text` has appeared since the last call.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.last = self.seen.drain(..at + text.len()).collect();
                return;
            }
            match self
                .screen
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(part) => self.seen.push_str(&part),
                Err(why) => panic!("{why}: the terminal does not show {text:?} but {:?}", self.seen),
            }
        }
    }

    /// What has been shown up to the last place where `text` was waited for.
    pub fn last_shown(&self) -> &str {
        &self.last
    }

    /// Waits for the program's end.
    pub fn ends(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

fn resize(terminal: &impl std::os::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

fn watch(mut screen: File) -> mpsc::Receiver<String> {
    // A person reads on; so does every test.
    let (sender, receiver) = mpsc::sync_channel(256);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = screen.read(&mut buffer) {
            if sender
                .send(String::from_utf8_lossy(&buffer[..length]).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    receiver
}
