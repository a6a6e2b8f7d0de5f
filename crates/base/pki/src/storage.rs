//! One file per identity, certificate and key together, so that the two can never be of different age.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::authority::KeyPairPem;

/// A directory of secrets: files are 0600 and replaced atomically.
pub(crate) struct SecretDirectory {
    path: PathBuf,
}

impl SecretDirectory {
    /// Opens `path`, made 0700 if absent.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The content of `name`, `None` if there is no such file.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<String>> {
        match std::fs::read_to_string(self.path.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces `name`. What cannot be made again (`durable`) is on the disk when this returns, up to
    /// [`SecretDirectory::sync`]; the rest costs no fsync, because a lost or torn leaf is simply issued anew.
    pub(crate) fn replace(&self, name: &str, content: &str, durable: bool) -> io::Result<()> {
        let temporary = self.path.join(format!(".{name}.new"));
        // A leftover of a killed process may be wider open than wanted.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content.as_bytes())?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, self.path.join(name))
    }

    /// Makes the renames durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl KeyPairPem {
    /// Certificate and key as one PEM text.
    pub(crate) fn bundle(&self) -> String {
        format!("{}{}", self.certificate, self.key)
    }

    /// Splits what [`KeyPairPem::bundle`] joined.
    pub(crate) fn split(bundle: &str) -> Option<Self> {
        let at = bundle.find("-----BEGIN PRIVATE KEY-----")?;
        let (certificate, key) = bundle.split_at(at);
        let whole =
            certificate.contains("-----END CERTIFICATE-----") && key.contains("-----END PRIVATE KEY-----");
        whole.then(|| Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }
}
