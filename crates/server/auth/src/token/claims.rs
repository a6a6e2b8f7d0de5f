//! The claims of a token and their compact serialisation (JWS, ES256).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloudeck_machinery::{Map, Value, json, value};
use cloudeck_pki::{TokenKey, TokenKeyError};

use super::TokenRefusal;
use crate::user::UserInfo;

/// The private claims stand under this name.
const PRIVATE: &str = "kubernetes.io";

/// What a token says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) audiences: Vec<String>,
    pub(super) expires_at: i64,
    pub(super) issued_at: i64,
    pub(super) not_before: i64,
    pub(super) id: String,
    pub(super) namespace: String,
    pub(super) account: Reference,
    pub(super) pod: Option<Reference>,
    pub(super) secret: Option<Reference>,
    pub(super) node: Option<Reference>,
    /// When its use becomes worth a warning.
    pub(super) warn_after: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) uid: String,
}

impl Claims {
    /// Signs.
    pub(super) fn serialize(&self, issuer: &str, key: &TokenKey) -> Result<String, TokenKeyError> {
        let header = value!({"alg": "ES256", "kid": (key.id())});
        let mut private = Map::new();
        private.insert("namespace", self.namespace.as_str().into());
        private.insert("serviceaccount", self.account.to_value());
        for (name, reference) in [("pod", &self.pod), ("secret", &self.secret), ("node", &self.node)] {
            if let Some(reference) = reference {
                private.insert(name, reference.to_value());
            }
        }
        if let Some(at) = self.warn_after {
            private.insert("warnafter", at.into());
        }
        let audiences = self
            .audiences
            .iter()
            .map(|audience| audience.as_str().into())
            .collect();
        let payload = value!({
            "aud": (Value::Array(audiences)),
            "exp": (self.expires_at),
            "iat": (self.issued_at),
            "iss": (issuer),
            "jti": (self.id.as_str()),
            "kubernetes.io": (private),
            "nbf": (self.not_before),
            "sub": (crate::user::service_account_name(&self.namespace, &self.account.name))
        });
        let encode = |tree: &Value| URL_SAFE_NO_PAD.encode(json::to_vec(tree));
        let mut token = format!("{}.{}", encode(&header), encode(&payload));
        let signature = key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }

    /// Checks the signature and reads the claims. Says nothing about time and audience.
    pub(super) fn read(token: &str, issuer: &str, key: &TokenKey) -> Result<Self, TokenRefusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenRefusal::Foreign)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenRefusal::Foreign)?;
        let decode = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenRefusal::Foreign)?;
            json::parse(&bytes).map_err(|_| TokenRefusal::Foreign)
        };
        let tree = decode(payload)?;
        if tree.str_at(&["iss"]) != Some(issuer) {
            return Err(TokenRefusal::Foreign);
        }
        let header = decode(header)?;
        if header.str_at(&["alg"]) != Some("ES256") || header.get("crit").is_some() {
            return Err(TokenRefusal::BadSignature);
        }
        if header
            .str_at(&["kid"])
            .is_some_and(|id| !id.is_empty() && id != key.id())
        {
            return Err(TokenRefusal::UnknownKey);
        }
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenRefusal::Foreign)?;
        if !key.verify(signed.as_bytes(), &signature) {
            return Err(TokenRefusal::BadSignature);
        }
        Self::from_payload(&tree).ok_or(TokenRefusal::Foreign)
    }

    fn from_payload(tree: &Value) -> Option<Self> {
        let private = tree.get(PRIVATE)?;
        let strings = |value: &Value| match value {
            Value::String(one) => vec![one.to_string()],
            other => other
                .as_array()
                .unwrap_or_default()
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        };
        Some(Self {
            audiences: strings(tree.get("aud")?),
            expires_at: tree.int_at(&["exp"])?,
            issued_at: tree.int_at(&["iat"]).unwrap_or_default(),
            not_before: tree.int_at(&["nbf"]).unwrap_or_default(),
            id: tree.str_at(&["jti"]).unwrap_or_default().to_owned(),
            namespace: private.str_at(&["namespace"])?.to_owned(),
            account: Reference::read(private, "serviceaccount")?,
            pod: Reference::read(private, "pod"),
            secret: Reference::read(private, "secret"),
            node: Reference::read(private, "node"),
            warn_after: private.int_at(&["warnafter"]),
        })
    }

    /// The user that the token stands for.
    pub(super) fn user(&self) -> UserInfo {
        let mut user = UserInfo::service_account(&self.namespace, &self.account.name, &self.account.uid);
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() {
                user.extra.insert(
                    format!("authentication.kubernetes.io/{key}"),
                    vec![value.to_owned()],
                );
            }
        };
        for (kind, reference) in [("pod", &self.pod), ("node", &self.node)] {
            if let Some(reference) = reference {
                add(&format!("{kind}-name"), &reference.name);
                add(&format!("{kind}-uid"), &reference.uid);
            }
        }
        if !self.id.is_empty() {
            add("credential-id", &format!("JTI={}", self.id));
        }
        user.authenticated()
    }
}

impl Reference {
    fn read(private: &Value, kind: &str) -> Option<Self> {
        let text = |field| private.str_at(&[kind, field]).unwrap_or_default().to_owned();
        private.get(kind)?;
        Some(Self {
            name: text("name"),
            uid: text("uid"),
        })
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (name, text) in [("name", &self.name), ("uid", &self.uid)] {
            if !text.is_empty() {
                map.insert(name, text.as_str().into());
            }
        }
        map.into()
    }
}
