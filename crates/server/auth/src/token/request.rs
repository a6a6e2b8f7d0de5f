//! TokenRequest: `POST …/serviceaccounts/NAME/token`.

use std::sync::Arc;
use std::time::SystemTime;

use cloudeck_machinery::object::split_api_version;
use cloudeck_machinery::{Cause, CauseType, Object, Status, Value};
use ring::rand::SecureRandom;

use super::claims::{Claims, Reference};
use super::{TokenIssuer, unix_seconds};
use crate::reader::ObjectReader;

const GROUP: &str = "authentication.k8s.io";
const DEFAULT_SECONDS: i64 = 3600;
/// What the projected volumes of pods ask for. Such tokens live on for a year after their time, with a warning in the
/// audit log, for programs that do not read the file again.
const PROJECTED_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// What a token may be bound to.
#[derive(Default)]
struct Bound {
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
}

impl TokenIssuer {
    /// Answers a TokenRequest for the account `namespace/name`: `body` with defaults and status filled in.
    ///
    /// # Errors
    /// The `Status` with which the request is refused.
    pub fn request_token(
        &self,
        reader: &dyn ObjectReader,
        namespace: &str,
        name: &str,
        body: &Value,
        now: SystemTime,
    ) -> Result<Value, Status> {
        check_matches(
            body,
            "name",
            name,
            name,
            "must match the service account name if specified",
        )?;
        check_matches(
            body,
            "namespace",
            namespace,
            name,
            "must match the service account namespace if specified",
        )?;
        let account = reader
            .get("", "serviceaccounts", namespace, name)
            .ok_or_else(|| Status::not_found("", "serviceaccounts", name))?;
        if let Some(uid) = body
            .str_at(&["metadata", "uid"])
            .filter(|uid| !uid.is_empty() && *uid != account.uid)
        {
            let why = format!(
                "the UID in the token request ({uid}) does not match the UID of the service account ({})",
                account.uid
            );
            return Err(Status::conflict(GROUP, "TokenRequest", name, &why));
        }
        let audiences = self.wanted_audiences(body);
        let seconds = body
            .int_at(&["spec", "expirationSeconds"])
            .unwrap_or(DEFAULT_SECONDS);
        check_spec(body, seconds)?;
        let bound = match body
            .at(&["spec", "boundObjectRef"])
            .filter(|reference| !reference.is_null())
        {
            None => Bound::default(),
            Some(reference) => bind(reader, namespace, name, reference)?,
        };
        let ours = audiences
            .iter()
            .all(|audience| self.config.audiences.contains(audience));
        let extend = bound.pod.is_some() && seconds == PROJECTED_SECONDS && ours;
        let issued_at = unix_seconds(now);
        let claims = Claims {
            expires_at: issued_at + if extend { EXTENDED_SECONDS } else { seconds },
            issued_at,
            not_before: issued_at,
            id: random_uuid()?,
            namespace: namespace.to_owned(),
            account: reference_to(&account),
            pod: bound.pod,
            secret: bound.secret,
            node: bound.node,
            warn_after: extend.then_some(issued_at + seconds),
            audiences,
        };
        let token = claims
            .serialize(&self.config.issuer, &self.key)
            .map_err(|error| Status::internal(format!("failed to generate token: {error}")))?;
        Ok(answer(body, &account, &claims, seconds, &token))
    }

    fn wanted_audiences(&self, body: &Value) -> Vec<String> {
        let asked = body
            .items_at(&["spec", "audiences"])
            .iter()
            .filter_map(Value::as_str);
        let asked: Vec<String> = asked.map(str::to_owned).collect();
        if asked.is_empty() {
            self.config.audiences.clone()
        } else {
            asked
        }
    }
}

fn answer(body: &Value, account: &Object, claims: &Claims, seconds: i64, token: &str) -> Value {
    let mut answer = body.clone();
    let audiences = claims
        .audiences
        .iter()
        .map(|audience| audience.as_str().into())
        .collect();
    answer.set_at(&["kind"], "TokenRequest");
    answer.set_at(&["apiVersion"], "authentication.k8s.io/v1");
    answer.set_at(&["metadata", "name"], account.key.name.clone());
    answer.set_at(&["metadata", "namespace"], account.key.namespace.clone());
    answer.set_at(&["metadata", "uid"], account.uid.clone());
    answer.set_at(&["metadata", "creationTimestamp"], rfc3339(claims.issued_at));
    answer.set_at(&["spec", "audiences"], Value::Array(audiences));
    answer.set_at(&["spec", "expirationSeconds"], seconds);
    answer.remove_at(&["status"]);
    answer.set_at(&["status", "token"], token);
    answer.set_at(
        &["status", "expirationTimestamp"],
        rfc3339(claims.issued_at + seconds),
    );
    answer
}

fn check_matches(body: &Value, field: &str, wanted: &str, name: &str, why: &str) -> Result<(), Status> {
    match body.str_at(&["metadata", field]) {
        Some(given) if !given.is_empty() && given != wanted => {
            let cause = invalid(&format!("metadata.{field}"), &format!("\"{given}\""), why);
            Err(Status::invalid(GROUP, "TokenRequest", name, vec![cause]))
        }
        _ => Ok(()),
    }
}

fn check_spec(body: &Value, seconds: i64) -> Result<(), Status> {
    let mut causes = Vec::new();
    let field = "spec.expirationSeconds";
    if seconds < 600 {
        causes.push(invalid(
            field,
            &seconds.to_string(),
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > 1 << 32 {
        causes.push(invalid(
            field,
            &seconds.to_string(),
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if let Some(attestations) = body
        .at(&["spec", "attestations"])
        .and_then(Value::as_object)
        .filter(|map| !map.is_empty())
    {
        let shown = Value::Object(attestations.clone()).to_string();
        let why = "attestations may only be specified with a webhook bound object reference";
        causes = vec![invalid("spec.attestations", &shown, why)];
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(GROUP, "TokenRequest", "", causes))
    }
}

fn invalid(field: &str, value: &str, why: &str) -> Cause {
    Cause {
        cause: CauseType::Invalid,
        message: format!("Invalid value: {value}: {why}"),
        field: field.to_owned(),
    }
}

fn bind(
    reader: &dyn ObjectReader,
    namespace: &str,
    account: &str,
    reference: &Value,
) -> Result<Bound, Status> {
    let text = |field| reference.str_at(&[field]).unwrap_or_default();
    let (kind, name) = (text("kind"), text("name"));
    let (group, version) = split_api_version(text("apiVersion"));
    let find = |resource, namespace: &str| {
        reader
            .get("", resource, namespace, name)
            .ok_or_else(|| Status::not_found("", resource, name))
    };
    let mut bound = Bound::default();
    let object = match (group, kind) {
        ("", "Pod") => {
            let pod = find("pods", namespace)?;
            let tree = pod.tree();
            if tree.str_at(&["spec", "serviceAccountName"]) != Some(account) {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
                )));
            }
            bound.pod = Some(reference_to(&pod));
            bound.node = tree
                .str_at(&["spec", "nodeName"])
                .filter(|node| !node.is_empty())
                .map(|node| {
                    // The name alone still tells where the pod is.
                    let unknown = || Reference {
                        name: node.to_owned(),
                        uid: String::new(),
                    };
                    reader
                        .get("", "nodes", "", node)
                        .map_or_else(unknown, |found| reference_to(&found))
                });
            pod
        }
        ("", "Node") => {
            let node = find("nodes", "")?;
            bound.node = Some(reference_to(&node));
            node
        }
        ("", "Secret") => {
            let secret = find("secrets", namespace)?;
            bound.secret = Some(reference_to(&secret));
            secret
        }
        _ => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    if !text("uid").is_empty() && object.uid != text("uid") {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Status::conflict(group, kind, name, &why));
    }
    Ok(bound)
}

fn reference_to(object: &Arc<Object>) -> Reference {
    Reference {
        name: object.key.name.to_string(),
        uid: object.uid.to_string(),
    }
}

fn rfc3339(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn random_uuid() -> Result<String, Status> {
    let mut bytes = [0_u8; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Status::internal("failed to generate token: no random bytes"))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let number = u128::from_be_bytes(bytes);
    let hex = format!("{number:032x}");
    Ok(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}
