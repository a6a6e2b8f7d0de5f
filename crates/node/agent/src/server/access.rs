//! Who may use the node's server.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cloudeck_machinery::{GroupVersionResource, Status, Value, json, value};
use cloudeck_pki::ClientVerifier;
use http::{HeaderMap, Method, header};
use rustls::pki_types::CertificateDer;

use crate::node::Node;

/// An allowed request stays allowed this long without asking again (upstream: 5 minutes; shorter is safer and cheap).
const ALLOWED_FOR: Duration = Duration::from_secs(30);
/// Decisions that are remembered.
const REMEMBERED: usize = 256;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
}

/// What is asked of the node, in the words of authorisation. Any of the subresources suffices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeAttributes {
    pub verb: &'static str,
    pub subresources: Vec<&'static str>,
}

/// Upstream's mapping of paths to subresources (KEP-2862).
pub(super) fn attributes(method: &Method, path: &str) -> NodeAttributes {
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let subresources = match first {
        "stats" => vec!["stats"],
        "metrics" => vec!["metrics"],
        "logs" => vec!["log"],
        "checkpoint" => vec!["checkpoint"],
        "pods" | "runningpods" => vec!["pods", "proxy"],
        "healthz" => vec!["healthz", "proxy"],
        "configz" => vec!["configz", "proxy"],
        _ => vec!["proxy"],
    };
    NodeAttributes { verb, subresources }
}

pub(super) struct Access {
    verifier: ClientVerifier,
    allowed: Mutex<HashMap<(User, NodeAttributes), SystemTime>>,
}

impl Access {
    pub(super) fn new(verifier: ClientVerifier) -> Self {
        Self {
            verifier,
            allowed: Mutex::default(),
        }
    }

    /// The error says for the log why; the client learns nothing but 401.
    pub(super) async fn authenticate(
        &self,
        node: &Node,
        chain: &[CertificateDer<'static>],
        headers: &HeaderMap,
    ) -> Result<User, String> {
        if !chain.is_empty()
            && let Ok(identity) = self.verifier.verify(chain, (node.clock)())
        {
            let mut groups = identity.groups;
            groups.push("system:authenticated".to_owned());
            return Ok(User {
                name: identity.user,
                uid: identity.uid.unwrap_or_default(),
                groups,
            });
        }
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = bearer
            .and_then(|text| text.strip_prefix("Bearer "))
            .ok_or("no credentials")?;
        review_token(node, token).await
    }

    pub(super) async fn authorize(
        &self,
        node: &Node,
        user: &User,
        attributes: &NodeAttributes,
    ) -> Result<bool, Status> {
        let now = (node.clock)();
        let key = (user.clone(), attributes.clone());
        if self.allowed().get(&key).is_some_and(|until| *until > now) {
            return Ok(true);
        }
        for subresource in &attributes.subresources {
            if review_access(node, user, attributes.verb, subresource).await? {
                let mut allowed = self.allowed();
                if allowed.len() >= REMEMBERED {
                    allowed.clear();
                }
                allowed.insert(key, now + ALLOWED_FOR);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn allowed(&self) -> std::sync::MutexGuard<'_, HashMap<(User, NodeAttributes), SystemTime>> {
        self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn create(node: &Node, group: &str, resource: &str, object: &Value) -> Result<Value, Status> {
    let resource = GroupVersionResource::new(group, "v1", resource);
    let request =
        cloudeck_client::Request::create(&resource, "", cloudeck_client::Body::json(json::to_vec(object)));
    let bytes = node.client.send(request).await?.into_json()?;
    json::parse(&bytes).map_err(Status::internal)
}

async fn review_token(node: &Node, token: &str) -> Result<User, String> {
    let review = value!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": (token)}
    });
    let answer = create(node, "authentication.k8s.io", "tokenreviews", &review)
        .await
        .map_err(|e| e.to_string())?;
    if answer.bool_at(&["status", "authenticated"]) != Some(true) {
        return Err("the token is not valid".to_owned());
    }
    let text = |name: &str| {
        answer
            .str_at(&["status", "user", name])
            .unwrap_or_default()
            .to_owned()
    };
    let groups = answer.items_at(&["status", "user", "groups"]);
    let groups = groups
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    Ok(User {
        name: text("username"),
        uid: text("uid"),
        groups,
    })
}

async fn review_access(node: &Node, user: &User, verb: &str, subresource: &str) -> Result<bool, Status> {
    let groups: Vec<Value> = user
        .groups
        .iter()
        .map(|group| Value::from(group.as_str()))
        .collect();
    let review = value!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": (user.name.as_str()), "uid": (user.uid.as_str()), "groups": (groups),
            "resourceAttributes": {
                "verb": (verb), "group": "", "version": "v1", "resource": "nodes",
                "subresource": (subresource), "name": (node.config.node_name.as_str())
            }
        }
    });
    let answer = create(node, "authorization.k8s.io", "subjectaccessreviews", &review).await?;
    Ok(answer.bool_at(&["status", "allowed"]) == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_map_to_subresources() {
        let exec = attributes(&Method::POST, "/exec/n/p/c");
        assert_eq!((exec.verb, exec.subresources), ("create", vec!["proxy"]));
        assert_eq!(attributes(&Method::GET, "/pods").subresources, ["pods", "proxy"]);
        assert_eq!(
            attributes(&Method::GET, "/metrics/cadvisor").subresources,
            ["metrics"]
        );
    }
}
