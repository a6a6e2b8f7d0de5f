//! Service-account tokens of the pods on this node: asked for once, renewed at 80 % of their life.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};

use crate::node::Node;
use crate::pod::Millis;
use crate::volumes::{SetUpError, request_token};

/// Tokens by pod, audience and life. A token is never written anywhere but into its volume.
#[derive(Default)]
pub struct Tokens {
    held: Mutex<HashMap<TokenKey, Held>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    pod_uid: String,
    audience: String,
    expiration_seconds: i64,
}

struct Held {
    token: String,
    renew_at: Millis,
}

impl Tokens {
    /// The token for a projection: the held one while it is fresh, else a new one.
    pub async fn get(
        &self,
        node: &Node,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
    ) -> Result<String, SetUpError> {
        let key = TokenKey {
            pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
            audience: source.audience.clone().unwrap_or_default(),
            expiration_seconds: source.expiration_seconds.unwrap_or_default(),
        };
        let now = node.now();
        if let Some(held) = self.lock().get(&key).filter(|held| held.renew_at > now) {
            return Ok(held.token.clone());
        }
        let (token, seconds) = request_token(node, pod, source).await?;
        let renew_at = now + seconds * 1000 / 100 * 80;
        self.lock().insert(
            key,
            Held {
                token: token.clone(),
                renew_at,
            },
        );
        Ok(token)
    }

    /// When the first token of the pod wants renewal.
    pub fn next_renewal(&self, pod_uid: &str) -> Option<Millis> {
        self.lock()
            .iter()
            .filter(|(key, _)| key.pod_uid == pod_uid)
            .map(|(_, held)| held.renew_at)
            .min()
    }

    /// Forgets the tokens of a pod that is gone.
    pub fn forget(&self, pod_uid: &str) {
        self.lock().retain(|key, _| key.pod_uid != pod_uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TokenKey, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
