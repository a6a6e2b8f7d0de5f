//! From credentials to a user.
//!
//! In order: front proxy headers, client certificate, bearer token, anonymous. A bad credential is refused even if it
//! was not needed, unless another one is good.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use cloudeck_pki::{CertificateIdentity, ClientVerifier};
use http::{HeaderMap, HeaderValue, header};
use rustls_pki_types::CertificateDer;

use crate::reader::ObjectReader;
use crate::token::{TokenIssuer, TokenRefusal};
use crate::user::UserInfo;

/// Front proxies are believed if their certificate names one of these.
const FRONT_PROXY_NAMES: [&str; 1] = ["front-proxy-client"];
const REMOTE_USER: &str = "x-remote-user";
const REMOTE_UID: &str = "x-remote-uid";
const REMOTE_GROUP: &str = "x-remote-group";
const REMOTE_EXTRA: &str = "x-remote-extra-";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Finds out who a request comes from.
pub struct Authenticator {
    clients: ClientVerifier,
    front_proxies: ClientVerifier,
    tokens: Arc<TokenIssuer>,
    anonymous: Arc<UserInfo>,
}

/// What a connection's certificate proves; found out once per connection, by [`Authenticator::peer`].
pub struct Peer {
    shown: Shown,
    not_after: SystemTime,
}

enum Shown {
    Nothing,
    Client(Arc<UserInfo>),
    FrontProxy,
    /// A certificate that nobody vouches for, and why.
    Untrusted(String),
}

/// Why a request is answered with 401. The client is told no more than that; the log is.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// The client certificate is bad.
    #[error("the client certificate is refused: {0}")]
    Certificate(String),
    /// The client certificate ended while the connection lasted.
    #[error("the client certificate has expired")]
    CertificateExpired,
    /// A header that names the user is not text.
    #[error("the header {0} is not text")]
    Header(String),
    /// The bearer token is bad.
    #[error("invalid bearer token")]
    Token(#[source] TokenRefusal),
}

impl Authenticator {
    /// `clients` and `front_proxies` trust one authority each.
    pub fn new(clients: ClientVerifier, front_proxies: ClientVerifier, tokens: Arc<TokenIssuer>) -> Self {
        Self {
            clients,
            front_proxies,
            tokens,
            anonymous: Arc::new(UserInfo::anonymous()),
        }
    }

    /// Judges the certificates of a new connection.
    pub fn peer(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Peer {
        if chain.is_empty() {
            return Peer {
                shown: Shown::Nothing,
                not_after: now,
            };
        }
        let refused = match self.clients.verify(chain, now) {
            Ok(identity) => {
                let not_after = identity.not_after;
                return Peer {
                    shown: Shown::Client(Arc::new(certificate_user(identity))),
                    not_after,
                };
            }
            Err(error) => error,
        };
        match self.front_proxies.verify(chain, now) {
            Ok(identity) if FRONT_PROXY_NAMES.contains(&identity.user.as_str()) => Peer {
                shown: Shown::FrontProxy,
                not_after: identity.not_after,
            },
            _ => Peer {
                shown: Shown::Untrusted(cloudeck_telemetry::chain(&refused)),
                not_after: now,
            },
        }
    }

    /// The user of a request with `headers` over the connection of `peer`.
    pub fn authenticate(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        reader: &dyn ObjectReader,
        now: SystemTime,
    ) -> Result<Arc<UserInfo>, AuthenticationError> {
        let expired = now > peer.not_after;
        let certificate_error = match &peer.shown {
            Shown::Nothing => None,
            Shown::Client(_) | Shown::FrontProxy if expired => Some(AuthenticationError::CertificateExpired),
            Shown::Client(user) => return Ok(user.clone()),
            Shown::FrontProxy => match front_proxy_user(headers)? {
                Some(user) => return Ok(Arc::new(user)),
                None => Some(AuthenticationError::Certificate(
                    "not signed for clients".to_owned(),
                )),
            },
            Shown::Untrusted(why) => Some(AuthenticationError::Certificate(why.clone())),
        };
        if let Some(token) = bearer_token(headers) {
            let audiences = self.tokens.audiences();
            return match self.tokens.verify(token, audiences, reader, now) {
                Ok(verified) => Ok(verified.user),
                Err(refusal) => Err(AuthenticationError::Token(refusal)),
            };
        }
        certificate_error.map_or_else(|| Ok(self.anonymous.clone()), Err)
    }
}

fn certificate_user(identity: CertificateIdentity) -> UserInfo {
    let credential = format!("X509SHA256={}", identity.fingerprint);
    UserInfo {
        name: identity.user,
        uid: identity.uid.unwrap_or_default(),
        groups: identity.groups,
        extra: [(CREDENTIAL_ID.to_owned(), vec![credential])].into(),
    }
    .authenticated()
}

/// The token of `Authorization: Bearer TOKEN`. Other schemes are no credential, as upstream has it.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let mut words = value.splitn(3, ' ');
    let scheme = words.next()?;
    let token = words.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn front_proxy_user(headers: &HeaderMap) -> Result<Option<UserInfo>, AuthenticationError> {
    let first = |name: &str| {
        Ok(header_texts(headers, name)?
            .into_iter()
            .next()
            .unwrap_or_default())
    };
    let name = first(REMOTE_USER)?;
    if name.is_empty() {
        return Ok(None);
    }
    let mut user = UserInfo {
        uid: first(REMOTE_UID)?,
        ..UserInfo::named(&name)
    };
    user.groups = header_texts(headers, REMOTE_GROUP)?;
    user.groups.retain(|group| !group.is_empty());
    user.extra = extra_headers(headers, REMOTE_EXTRA)?;
    Ok(Some(user.authenticated()))
}

/// All values of a header. One that is not UTF-8 is an error: ignoring it would change who is meant.
pub(crate) fn header_texts(headers: &HeaderMap, name: &str) -> Result<Vec<String>, AuthenticationError> {
    headers
        .get_all(name)
        .iter()
        .map(|value| header_text(name, value))
        .collect()
}

fn header_text(name: &str, value: &HeaderValue) -> Result<String, AuthenticationError> {
    let text =
        std::str::from_utf8(value.as_bytes()).map_err(|_| AuthenticationError::Header(name.to_owned()))?;
    Ok(text.trim().to_owned())
}

/// `PREFIX-KEY: value` headers, keys percent-decoded.
pub(crate) fn extra_headers(
    headers: &HeaderMap,
    prefix: &str,
) -> Result<BTreeMap<String, Vec<String>>, AuthenticationError> {
    let mut extra = BTreeMap::<String, Vec<String>>::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(prefix) {
            extra
                .entry(percent_decode(key))
                .or_default()
                .push(header_text(name.as_str(), value)?);
        }
    }
    Ok(extra)
}

/// Malformed escapes leave the text as it is.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let decoded = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(decoded) = decoded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return text.to_owned();
        };
        bytes.push(decoded);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests;
