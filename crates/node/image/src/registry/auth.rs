//! What a registry asks for in `WWW-Authenticate`, and how it is obtained: basic credentials or a token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;

use super::http::{self as client, Request};
use super::{Registry, RegistryError};
use crate::credentials::Credentials;

const TOKEN_BYTES_MAX: u64 = 1 << 20;
const CLIENT_ID: &str = "cloudeck";

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads one header value; of several challenges in it, the first.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (scheme, parameters) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters_of(parameters) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer {
            realm: realm?,
            service,
            scope,
        })
    }
}

/// `name="value", name=value`.
fn parameters_of(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_owned();
        let (value, next) = if let Some(quoted) = after.strip_prefix('"') {
            quoted_string(quoted)
        } else {
            let (value, next) = after.split_once(',').unwrap_or((after, ""));
            (value.trim().to_owned(), next)
        };
        found.push((name, value));
        rest = next;
    }
    found
}

/// Reads to the closing quote; a backslash escapes the next character.
fn quoted_string(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// The header to repeat the request with; none if nothing better can be shown.
    pub(super) async fn authorize(
        &self,
        challenges: &[Challenge],
    ) -> Result<Option<HeaderValue>, RegistryError> {
        if let Some(Credentials::RegistryToken(token)) = &self.credentials {
            // Shown already, and refused.
            return Ok(if self.authorization().is_none() {
                bearer(token)
            } else {
                None
            });
        }
        let bearer_challenge = challenges
            .iter()
            .find(|challenge| **challenge != Challenge::Basic);
        if let Some(Challenge::Bearer {
            realm,
            service,
            scope,
        }) = bearer_challenge
        {
            let token = self.token(realm, service.as_deref(), scope.as_deref()).await?;
            return Ok(bearer(&token));
        }
        if challenges.is_empty() {
            return Err(RegistryError::Challenge(self.authority.clone()));
        }
        Ok(if self.authorization().is_none() {
            self.basic()
        } else {
            None
        })
    }

    fn basic(&self) -> Option<HeaderValue> {
        let Some(Credentials::Password { username, password }) = &self.credentials else {
            return None;
        };
        let encoded = STANDARD.encode(format!("{username}:{password}"));
        secret(&format!("Basic {encoded}"))
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<String, RegistryError> {
        let default_scope = format!("repository:{}:pull", self.reference.repository());
        let scope = scope.unwrap_or(&default_scope);
        let request = self.token_request(realm, service, scope)?;
        let url = request.url.clone();
        // Over TLS to the registry, no credentials over plain HTTP to its token server.
        if url.scheme_str() != Some("https") && !self.may_be_plain {
            return Err(RegistryError::Downgrade {
                from: self.authority.clone(),
                to: url.to_string(),
            });
        }
        let host = url.authority().map(ToString::to_string).unwrap_or_default();
        let response = self.http.send(&request).await?;
        let status = response.status();
        let body = client::read_body(response.into_body(), TOKEN_BYTES_MAX, &host).await?;
        if status.is_client_error() && status != http::StatusCode::TOO_MANY_REQUESTS {
            let message = error_message(&body).unwrap_or_else(|| format!("token server answered {status}"));
            return Err(RegistryError::Unauthorized(message));
        }
        if !status.is_success() {
            let message = error_message(&body)
                .map(|text| format!(": {text}"))
                .unwrap_or_default();
            return Err(RegistryError::Status {
                method: request.method,
                url: url.to_string(),
                status,
                message,
            });
        }
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_| RegistryError::Token(host.clone()))?;
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty());
        token.ok_or(RegistryError::Token(host))
    }

    fn token_request(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
    ) -> Result<Request, RegistryError> {
        let mut fields: Vec<(&str, &str)> = Vec::new();
        fields.extend(service.map(|service| ("service", service)));
        if let Some(Credentials::IdentityToken(token)) = &self.credentials {
            fields.extend([
                ("scope", scope),
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
            ]);
            fields.push(("client_id", CLIENT_ID));
            let body = Bytes::from(form(&fields));
            let body = Some(("application/x-www-form-urlencoded", body));
            return Ok(Request {
                url: client::parse(realm)?,
                method: Method::POST,
                headers: HeaderMap::new(),
                body,
            });
        }
        // Registries may ask for several scopes, divided by spaces; each is a parameter of its own.
        fields.extend(
            scope
                .split(' ')
                .filter(|scope| !scope.is_empty())
                .map(|scope| ("scope", scope)),
        );
        let separator = if realm.contains('?') { '&' } else { '?' };
        let url = client::parse(&format!("{realm}{separator}{}", form(&fields)))?;
        let mut headers = HeaderMap::new();
        headers.extend(self.basic().map(|value| (AUTHORIZATION, value)));
        Ok(Request {
            url,
            method: Method::GET,
            headers,
            body: None,
        })
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn form(fields: &[(&str, &str)]) -> String {
    let encoded = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", percent_encode(value)));
    encoded.collect::<Vec<_>>().join("&")
}

fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut encoded, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
            }
            encoded
        })
}

/// What a registry or token server says in the body of a refusal.
pub(super) fn error_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let described = |error: &serde_json::Value| {
        let code = error.get("code").and_then(text).map(|code| code.to_lowercase());
        match (code, error.get("message").and_then(text)) {
            (Some(code), Some(message)) => Some(format!("{code}: {message}")),
            (code, message) => code.or(message),
        }
    };
    let listed = value
        .get("errors")
        .and_then(|errors| errors.get(0))
        .and_then(described);
    let shown = listed.or_else(|| {
        ["details", "message", "error_description", "error"]
            .iter()
            .find_map(|key| value.get(key).and_then(text))
    })?;
    Some(shown.chars().filter(|c| !c.is_control()).take(256).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_challenge_is_read_with_its_quotes() {
        let value = r#"Bearer realm="https://auth.io/token?a=b",service="reg, \"x\"" , scope="repository:a/b:pull,push""#;
        let wanted = Challenge::Bearer {
            realm: "https://auth.io/token?a=b".to_owned(),
            service: Some("reg, \"x\"".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(value), Some(wanted));
    }

    #[test]
    fn other_challenges_are_told_apart() {
        assert_eq!(Challenge::parse(r#"basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=x"), None);
        assert_eq!(
            Challenge::parse("Bearer realm=\"unclosed"),
            Some(Challenge::Bearer {
                realm: "unclosed".to_owned(),
                service: None,
                scope: None,
            })
        );
    }

    #[test]
    fn parameters_are_encoded() {
        assert_eq!(
            form(&[("service", "a b&c"), ("scope", "repository:a/b:pull")]),
            "service=a%20b%26c&scope=repository:a/b:pull"
        );
    }

    #[test]
    fn the_servers_own_words_are_found() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        assert_eq!(
            error_message(body).as_deref(),
            Some("manifest_unknown: manifest unknown")
        );
        assert_eq!(
            error_message(br#"{"details":"incorrect username or password"}"#).as_deref(),
            Some("incorrect username or password")
        );
        assert_eq!(error_message(b"<html>"), None);
    }
}
