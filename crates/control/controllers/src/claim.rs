//! Who belongs to a controller: its own that still match, and orphans that match. Pure.

use std::sync::Arc;

use cloudeck_machinery::{LabelSelector, Object};

use crate::view::Facts;

/// What an owner is, as far as claiming goes.
pub(crate) struct Claimant<'a> {
    pub(crate) uid: &'a str,
    pub(crate) deleting: bool,
    pub(crate) selector: &'a LabelSelector,
}

/// The objects that a controller ends up with and what has to be written for it.
pub(crate) struct Claims<T> {
    /// Owned after the writes.
    pub(crate) owned: Vec<Arc<T>>,
    /// Orphans to become owned; they stand in `owned`, too.
    pub(crate) adopt: Vec<Arc<T>>,
    /// No longer selected.
    pub(crate) release: Vec<Arc<T>>,
}

/// Sorts the candidates: objects with this owner and orphans of its namespace.
///
/// An owner that is going away takes and gives nothing but keeps what it has; an orphan that is being deleted is left
/// alone.
pub(crate) fn claim<T: Facts>(
    claimant: &Claimant<'_>,
    candidates: impl IntoIterator<Item = Arc<T>>,
) -> Claims<T> {
    let mut claims = Claims {
        owned: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    for candidate in candidates {
        let object: &Object = candidate.object();
        let selected = claimant.selector.matches(object);
        match candidate.controller_uid() {
            Some(uid) if uid != claimant.uid => {}
            Some(_) if selected => claims.owned.push(candidate),
            Some(_) if !claimant.deleting => claims.release.push(candidate),
            None if selected && !claimant.deleting && !candidate.is_deleting() => {
                claims.adopt.push(Arc::clone(&candidate));
                claims.owned.push(candidate);
            }
            _ => {}
        }
    }
    claims
}
