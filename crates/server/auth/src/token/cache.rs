//! Remembers tokens whose signature was checked.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::claims::Claims;
use crate::user::UserInfo;

/// At about 1 KB an entry, 4 MB at most. When it is full it is emptied: a signature costs 0.1 ms to check again.
const CAPACITY: usize = 4_096;

type Digest = [u8; 32];
pub(super) type Known = Arc<(Claims, Arc<UserInfo>)>;

/// By the digest of the token, so that no token lies in memory.
#[derive(Default)]
pub(super) struct VerifiedCache {
    entries: RwLock<HashMap<Digest, Known>>,
}

impl VerifiedCache {
    pub(super) fn get(&self, token: &str) -> Option<Known> {
        self.entries
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&digest(token))
            .cloned()
    }

    pub(super) fn insert(&self, token: &str, claims: Claims) -> Known {
        let user = Arc::new(claims.user());
        let known: Known = Arc::new((claims, user));
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.insert(digest(token), known.clone());
        known
    }
}

fn digest(token: &str) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
