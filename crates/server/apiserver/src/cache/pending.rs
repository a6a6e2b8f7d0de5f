//! Trees of writes under way: who writes an object has its tree already, so the feed need not parse its bytes again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use cloudeck_machinery::Value;

/// By the datastore's key, with the bytes that the tree was written as. Never needed for correctness: a tree that is not
/// here, or belongs to other bytes, is parsed.
#[derive(Default)]
pub(crate) struct Pending {
    trees: Mutex<HashMap<Bytes, (Bytes, Value)>>,
}

/// A tree on offer, withdrawn when the write is over.
pub(crate) struct Offer<'a> {
    pending: &'a Pending,
    key: Bytes,
    value: Bytes,
}

impl Pending {
    /// Offers the tree of `value`, about to be written at `key`.
    pub(crate) fn offer(&self, key: &Bytes, value: &Bytes, tree: Value) -> Offer<'_> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.insert(key.clone(), (value.clone(), tree));
        Offer {
            pending: self,
            key: key.clone(),
            value: value.clone(),
        }
    }

    /// The tree of exactly these bytes, if its writer offers it.
    pub(crate) fn take(&self, key: &[u8], value: &Bytes) -> Option<Value> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if trees.get(key).is_some_and(|(offered, _)| offered == value) {
            return trees.remove(key).map(|(_, tree)| tree);
        }
        None
    }
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        let mut trees = self.pending.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let own = |(offered, _): &(Bytes, Value)| offered.as_ptr() == self.value.as_ptr();
        if trees.get(&self.key).is_some_and(own) {
            trees.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_goes_only_with_its_own_bytes_and_goes_away_with_its_writer() {
        let pending = Pending::default();
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from("1".to_owned()));
        let offer = pending.offer(&key, &value, Value::from(1));
        assert_eq!(pending.take(b"k", &Bytes::from_static(b"2")), None);
        assert_eq!(pending.take(b"k", &value), Some(Value::from(1)));
        drop(offer);
        drop(pending.offer(&key, &value, Value::from(1)));
        assert_eq!(pending.take(b"k", &value), None);
    }
}
