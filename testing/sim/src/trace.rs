//! What happened, in order: hashed always, printed when asked for. And what should not have happened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::host;

/// The record of one simulation. Cheap to clone; clones are the same record.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    hash: u64,
    lines: u64,
    print: bool,
    /// Keys that begin so are printed with their values.
    show: Option<String>,
    violations: Vec<String>,
}

/// More would say the same again.
const MOST_VIOLATIONS: usize = 20;

impl Trace {
    /// Prints each line if asked to, and the values of keys that begin with `show`.
    pub(crate) fn new(print: bool, show: Option<String>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            hash: 0xCBF2_9CE4_8422_2325,
            lines: 0,
            print,
            show,
            violations: Vec::new(),
        })))
    }

    /// Adds a line.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        let mut inner = self.lock();
        let at = host::elapsed().as_millis();
        let line = format!("{at:>9} {}", text.as_ref());
        if inner.print {
            eprintln!("{line}");
        }
        inner.lines += 1;
        for byte in line.bytes().chain([b'\n']) {
            inner.hash = (inner.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    /// Prints a value, if it is to be seen.
    pub(crate) fn show(&self, key: &str, value: Option<&[u8]>) {
        if let Some(show) = &self.lock().show
            && key.starts_with(show.as_str())
        {
            let text = value.map_or("gone".into(), String::from_utf8_lossy);
            eprintln!("          {key} {text}");
        }
    }

    /// Adds a line that says that the product is wrong.
    pub(crate) fn violation(&self, text: impl AsRef<str>) {
        let text = format!("VIOLATION {}", text.as_ref());
        self.line(&text);
        let mut inner = self.lock();
        if inner.violations.len() < MOST_VIOLATIONS {
            let at = host::elapsed().as_millis();
            inner.violations.push(format!("at {at} ms: {text}"));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.lock().hash
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lock().lines
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.lock().violations.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A short name for content.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
