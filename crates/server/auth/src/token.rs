//! Tokens of service accounts: made for a TokenRequest, checked on every use.
//!
//! A token names its account and, if bound, its pod, secret or node, each with its uid; it is good as long as those
//! exist. The signature is checked once per token and remembered; what the token is bound to is looked up every time.
//!
//! Start reading at [`TokenIssuer::verify`].

mod cache;
mod claims;
mod request;

use std::sync::Arc;
use std::time::SystemTime;

use cloudeck_machinery::Object;
use cloudeck_pki::TokenKey;

use crate::go_format::quoted_list;
use crate::reader::ObjectReader;
use crate::user::UserInfo;
use cache::VerifiedCache;
use claims::{Claims, Reference};

/// How long after its deletion an object still counts, and how far clocks may differ.
const LEEWAY_SECONDS: i64 = 60;

/// Who issues, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIssuerConfig {
    /// The `iss` claim: `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// The audiences of this API server, and of tokens that ask for none. Usually the issuer.
    pub audiences: Vec<String>,
}

/// Makes and checks tokens.
pub struct TokenIssuer {
    config: TokenIssuerConfig,
    key: Arc<TokenKey>,
    cache: VerifiedCache,
}

/// A good token.
#[derive(Debug, Clone)]
pub struct VerifiedToken {
    /// Whose token it is.
    pub user: Arc<UserInfo>,
    /// Which of the wanted audiences it is for.
    pub audiences: Vec<String>,
}

/// Why a token is refused, in upstream's words where it has them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Not a token of this cluster.
    #[error("invalid bearer token")]
    Foreign,
    /// The key is unknown, or the signature wrong.
    #[error("invalid signature, no keys found")]
    UnknownKey,
    /// The signature is wrong.
    #[error("square/go-jose: error in cryptographic primitive")]
    BadSignature,
    /// The token is for others.
    #[error("token audiences {} is invalid for the target audiences {}", quoted_list(.token), quoted_list(.wanted))]
    WrongAudience {
        /// For whom it is.
        token: Vec<String>,
        /// Who asks.
        wanted: Vec<String>,
    },
    /// Its time is over.
    #[error("service account token has expired")]
    Expired,
    /// Its time has not come.
    #[error("service account token is not valid yet")]
    NotYetValid,
    /// It comes from the future.
    #[error("service account token is issued in the future")]
    FromTheFuture,
    /// The account is gone.
    #[error("serviceaccount \"{0}\" not found")]
    NoAccount(String),
    /// What it is bound to is gone.
    #[error("service account token has been invalidated")]
    Invalidated,
    /// The account is another of the same name.
    #[error("service account UID ({found}) does not match claim ({claimed})")]
    OtherAccount {
        /// The uid of the account that exists.
        found: String,
        /// The uid in the token.
        claimed: String,
    },
    /// The account is being deleted.
    #[error("service account {0} has been deleted")]
    AccountDeleted(String),
    /// The bound object is another of the same name.
    #[error("{kind} UID ({found}) does not match service account {kind} ref claim ({claimed})")]
    OtherObject {
        /// `pod`, `secret` or `node`.
        kind: &'static str,
        /// The uid of the object that exists.
        found: String,
        /// The uid in the token.
        claimed: String,
    },
}

impl TokenIssuer {
    /// An issuer that signs with `key`.
    pub fn new(config: TokenIssuerConfig, key: Arc<TokenKey>) -> Self {
        Self {
            config,
            key,
            cache: VerifiedCache::default(),
        }
    }

    /// The audiences of this API server.
    pub fn audiences(&self) -> &[String] {
        &self.config.audiences
    }

    /// Checks a token: signature, audience, time, and that what it is bound to exists.
    pub fn verify(
        &self,
        token: &str,
        wanted: &[String],
        reader: &dyn ObjectReader,
        now: SystemTime,
    ) -> Result<VerifiedToken, TokenRefusal> {
        let known = if let Some(known) = self.cache.get(token) {
            known
        } else {
            let claims = Claims::read(token, &self.config.issuer, &self.key)?;
            self.cache.insert(token, claims)
        };
        let (claims, user) = &*known;
        let audiences: Vec<String> = claims
            .audiences
            .iter()
            .filter(|audience| wanted.contains(audience))
            .cloned()
            .collect();
        if audiences.is_empty() {
            let (token, wanted) = (claims.audiences.clone(), wanted.to_vec());
            return Err(TokenRefusal::WrongAudience { token, wanted });
        }
        let now = unix_seconds(now);
        check_times(claims, now)?;
        check_bindings(claims, reader, now)?;
        Ok(VerifiedToken {
            user: user.clone(),
            audiences,
        })
    }

    /// The OpenID discovery document: `/.well-known/openid-configuration`. `server` is this API server's own URL.
    pub fn discovery(&self, server: &str) -> cloudeck_machinery::Value {
        cloudeck_machinery::value!({
            "id_token_signing_alg_values_supported": ["ES256"],
            "issuer": (self.config.issuer.as_str()),
            "jwks_uri": (format!("{server}/openid/v1/jwks")),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"]
        })
    }

    /// The JSON web key set with which others check tokens: `/openid/v1/jwks`.
    pub fn key_set(&self) -> cloudeck_machinery::Value {
        let (x, y) = self.key.public_coordinates();
        cloudeck_machinery::value!({"keys": [{
            "use": "sig", "kty": "EC", "kid": (self.key.id()), "crv": "P-256", "alg": "ES256", "x": (x), "y": (y)
        }]})
    }
}

fn check_times(claims: &Claims, now: i64) -> Result<(), TokenRefusal> {
    if now > claims.expires_at + LEEWAY_SECONDS {
        return Err(TokenRefusal::Expired);
    }
    if now + LEEWAY_SECONDS < claims.not_before {
        return Err(TokenRefusal::NotYetValid);
    }
    if now + LEEWAY_SECONDS < claims.issued_at {
        return Err(TokenRefusal::FromTheFuture);
    }
    Ok(())
}

fn check_bindings(claims: &Claims, reader: &dyn ObjectReader, now: i64) -> Result<(), TokenRefusal> {
    let (namespace, account) = (&claims.namespace, &claims.account);
    let found = reader.get("", "serviceaccounts", namespace, &account.name);
    let found = found.ok_or_else(|| TokenRefusal::NoAccount(account.name.clone()))?;
    if found.uid != account.uid {
        let (found, claimed) = (found.uid.to_string(), account.uid.clone());
        return Err(TokenRefusal::OtherAccount { found, claimed });
    }
    if deleted_before(&found, now - LEEWAY_SECONDS) {
        return Err(TokenRefusal::AccountDeleted(format!(
            "{namespace}/{}",
            account.name
        )));
    }
    let check = |reference: &Option<Reference>, resource, namespace: &str, kind| {
        let Some(bound) = reference else { return Ok(()) };
        let found = reader
            .get("", resource, namespace, &bound.name)
            .ok_or(TokenRefusal::Invalidated)?;
        if found.uid != bound.uid {
            let (found, claimed) = (found.uid.to_string(), bound.uid.clone());
            return Err(TokenRefusal::OtherObject { kind, found, claimed });
        }
        if deleted_before(&found, now - LEEWAY_SECONDS) {
            return Err(TokenRefusal::Invalidated);
        }
        Ok(())
    };
    check(&claims.secret, "secrets", namespace, "secret")?;
    check(&claims.pod, "pods", namespace, "pod")?;
    if claims.pod.is_none() {
        // With a pod, the node is information only.
        check(&claims.node, "nodes", "", "node")?;
    }
    Ok(())
}

/// Whether the object's deletion (its grace period included) lies before `limit`.
fn deleted_before(object: &Object, limit: i64) -> bool {
    const FIELD: &[u8] = b"\"deletionTimestamp\"";
    // Spares the parse of nearly every object.
    if !object.json.windows(FIELD.len()).any(|window| window == FIELD) {
        return false;
    }
    let tree = object.tree();
    let deleted = tree
        .str_at(&["metadata", "deletionTimestamp"])
        .and_then(|text| text.parse::<jiff::Timestamp>().ok());
    deleted.is_some_and(|at| at.as_second() < limit)
}

fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
