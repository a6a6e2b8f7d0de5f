//! Credentials for registries: the values, and the files that hold them (`.dockerconfigjson`, `.dockercfg`).
//!
//! Source of the matching rules: the kubelet's `credentialprovider` package.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cloudeck_oci::Reference;
use serde::Deserialize;

/// What a client shows to a registry. Cannot be printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    Password {
        username: String,
        password: String,
    },
    /// An OAuth 2 refresh token, which a token server exchanges.
    IdentityToken(String),
    /// A bearer token that the registry takes as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The content of an auth file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthFile {
    /// The more specific of two keys that match comes first.
    entries: Vec<(Pattern, Credentials)>,
}

/// Why an auth file was not read. Says nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAuthFileError {
    #[error("registry credentials are not a JSON object of the expected form")]
    Json,
    #[error("registry credentials for {0:?} are not base64 of user:password")]
    Auth(String),
}

/// A key of an auth file: a host, perhaps with `*` in its parts, a port and the beginning of a path.
#[derive(Clone, PartialEq, Eq)]
struct Pattern {
    host: String,
    path: String,
}

#[derive(Deserialize)]
struct Config {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthFile {
    /// Reads either form: `{"auths": {…}}`, or the older one without that level.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseAuthFileError> {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| ParseAuthFileError::Json)?;
        let auths: BTreeMap<String, Entry> = if value.get("auths").is_some() {
            serde_json::from_value(value).map(|config: Config| config.auths)
        } else {
            serde_json::from_value(value)
        }
        .map_err(|_| ParseAuthFileError::Json)?;
        let mut entries = Vec::new();
        for (key, entry) in auths.into_iter().rev() {
            if let Some(credentials) = entry.credentials(&key)? {
                entries.push((Pattern::parse(&key), credentials));
            }
        }
        Ok(Self { entries })
    }

    /// All credentials for an image, in the order to try them.
    pub fn lookup(&self, image: &Reference) -> Vec<Credentials> {
        let matching = self.entries.iter().filter(|(pattern, _)| pattern.matches(image));
        matching.map(|(_, credentials)| credentials.clone()).collect()
    }
}

impl fmt::Debug for AuthFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthFile({} entries)", self.entries.len())
    }
}

impl Entry {
    fn credentials(self, key: &str) -> Result<Option<Credentials>, ParseAuthFileError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identitytoken)));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::RegistryToken(self.registrytoken)));
        }
        if self.auth.is_empty() {
            let given = !self.username.is_empty();
            return Ok(given.then_some(Credentials::Password {
                username: self.username,
                password: self.password,
            }));
        }
        let malformed = || ParseAuthFileError::Auth(key.to_owned());
        let auth = self.auth.trim();
        let decoded = STANDARD
            .decode(auth)
            .or_else(|_| STANDARD_NO_PAD.decode(auth))
            .map_err(|_| malformed())?;
        let text = String::from_utf8(decoded).map_err(|_| malformed())?;
        let (username, password) = text.split_once(':').ok_or_else(malformed)?;
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Credentials::Password {
            username: username.to_owned(),
            password,
        }))
    }
}

impl Pattern {
    fn parse(key: &str) -> Self {
        let key = key
            .strip_prefix("https://")
            .or_else(|| key.strip_prefix("http://"))
            .unwrap_or(key);
        let (host, path) = key.split_once('/').unwrap_or((key, ""));
        // The API version that old clients put into the key.
        let path = match path.trim_end_matches('/') {
            "v1" | "v2" => "",
            path => path
                .strip_prefix("v1/")
                .or_else(|| path.strip_prefix("v2/"))
                .unwrap_or(path),
        };
        Self {
            host: canonical_host(host).to_owned(),
            path: path.to_owned(),
        }
    }

    fn matches(&self, image: &Reference) -> bool {
        image.repository().starts_with(&self.path)
            && host_matches(&self.host, canonical_host(image.registry()))
    }
}

/// Docker Hub has several names.
fn canonical_host(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

/// Ports are equal, and each part between dots matches its pattern.
fn host_matches(pattern: &str, host: &str) -> bool {
    let split = |text: &str| -> (Vec<String>, Option<String>) {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port.to_owned())),
            _ => (text, None),
        };
        (name.split('.').map(str::to_owned).collect(), port)
    };
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(host));
    pattern_port == port
        && pattern.len() == host.len()
        && pattern
            .iter()
            .zip(&host)
            .all(|(pattern, part)| part_matches(pattern, part))
}

/// `*` stands for any text, several times if need be.
fn part_matches(pattern: &str, part: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = part.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<_> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(file: &str, image: &str) -> Vec<String> {
        let found = AuthFile::parse(file.as_bytes())
            .unwrap()
            .lookup(&image.parse().unwrap());
        let name = |credentials| match credentials {
            Credentials::Password { username, password } => format!("{username}/{password}"),
            Credentials::IdentityToken(token) | Credentials::RegistryToken(token) => token,
        };
        found.into_iter().map(name).collect()
    }

    #[test]
    fn the_more_specific_key_comes_first() {
        let file = r#"{"auths":{"r.io":{"username":"a","password":"1"},"r.io/team":{"auth":"Yjoy"},
            "r.io/other":{"username":"c"},"https://r.io:5000/v2/":{"username":"d"}}}"#;
        assert_eq!(users(file, "r.io/team/app"), ["b/2", "a/1"]);
        assert_eq!(users(file, "r.io:5000/team/app"), ["d/"]);
        assert_eq!(users(file, "else.io/app"), Vec::<String>::new());
    }

    #[test]
    fn docker_hub_is_found_under_its_old_key() {
        let file = r#"{"https://index.docker.io/v1/":{"auth":"dTpwOnE="}}"#;
        assert_eq!(users(file, "nginx"), ["u/p:q"]);
    }

    #[test]
    fn stars_match_within_one_part_of_a_host() {
        let file = r#"{"auths":{"*.reg-*.io":{"identitytoken":"t"}}}"#;
        assert_eq!(users(file, "eu.reg-1.io/x"), ["t"]);
        assert_eq!(users(file, "a.eu.reg-1.io/x"), Vec::<String>::new());
        assert_eq!(users(file, "eu.other.io/x"), Vec::<String>::new());
    }

    #[test]
    fn a_malformed_file_is_refused_without_showing_it() {
        assert_eq!(AuthFile::parse(b"{"), Err(ParseAuthFileError::Json));
        let error = AuthFile::parse(br#"{"auths":{"r.io":{"auth":"c2VjcmV0"}}}"#).unwrap_err();
        assert_eq!(error, ParseAuthFileError::Auth("r.io".to_owned()));
        let shown = format!("{:?}", Credentials::RegistryToken("secret".to_owned()));
        assert!(!shown.contains("secret"));
    }
}
