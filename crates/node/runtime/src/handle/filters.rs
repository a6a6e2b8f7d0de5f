//! Compiled seccomp filters: made once per profile and set of capabilities, kept as files that containers load.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::lock;
use crate::config::{SeccompProfile, Security};
use crate::error::RequestError;
use crate::seccomp::{self, Profile};

pub(super) struct Filters {
    dir: PathBuf,
    /// The default profile's, by set of capabilities. Files may change, so theirs are compiled each time.
    usual: Mutex<HashMap<u64, PathBuf>>,
}

impl Filters {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            usual: Mutex::new(HashMap::new()),
        }
    }

    /// The filter for a container; `None` for none.
    pub(super) fn file_for(
        &self,
        security: &Security,
        capabilities: u64,
    ) -> Result<Option<PathBuf>, RequestError> {
        match &security.seccomp {
            _ if security.privileged => Ok(None),
            SeccompProfile::Unconfined => Ok(None),
            SeccompProfile::RuntimeDefault => self.usual(capabilities).map(Some),
            SeccompProfile::Localhost(path) => self.local(path, capabilities).map(Some),
        }
    }

    fn usual(&self, capabilities: u64) -> Result<PathBuf, RequestError> {
        let mut known = lock(&self.usual);
        if let Some(path) = known.get(&capabilities) {
            return Ok(path.clone());
        }
        let path = self.keep(&Profile::usual(capabilities))?;
        known.insert(capabilities, path.clone());
        Ok(path)
    }

    fn local(&self, path: &Path, capabilities: u64) -> Result<PathBuf, RequestError> {
        let what = || format!("read seccomp profile {}", path.display());
        let text = std::fs::read(path).map_err(RequestError::io(what()))?;
        let profile = Profile::from_json(&text, capabilities);
        let profile =
            profile.map_err(|error| RequestError::Refused(format!("{}: {error}", path.display())))?;
        self.keep(&profile)
    }

    /// Writes the filter under the name of its content.
    fn keep(&self, profile: &Profile) -> Result<PathBuf, RequestError> {
        let code = seccomp::compile(profile).map_err(|error| RequestError::Refused(error.to_string()))?;
        let path = self.dir.join(format!("{:016x}.bpf", fingerprint(&code)));
        let write = || -> io::Result<()> {
            if std::fs::read(&path).is_ok_and(|there| there == code) {
                return Ok(());
            }
            let temporary = self
                .dir
                .join(format!("{:016x}.{}.new", fingerprint(&code), std::process::id()));
            std::fs::write(&temporary, &code)?;
            std::fs::rename(temporary, &path)
        };
        write().map_err(RequestError::io("write a seccomp filter"))?;
        Ok(path)
    }
}

/// FNV-1a: a name for the content, not a proof of it.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
