//! The hash of a pod template, as it stands in names and in the label `pod-template-hash`.
//!
//! Upstream hashes a dump of Go structs; only that equal templates give equal hashes matters, so here the canonical JSON
//! is hashed. The form is upstream's: FNV-1a of 32 bits, in decimal, in letters that spell no words.

use cloudeck_machinery::{Value, json};

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// `collisions` counts how often the name was taken by another template.
pub(super) fn template_hash(template: &Value, collisions: Option<i64>) -> String {
    let mut bytes = json::to_vec(template);
    if let Some(collisions) = collisions {
        bytes.extend_from_slice(&collisions.to_le_bytes());
    }
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let letters = hash.to_string().into_bytes();
    letters
        .into_iter()
        .map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[test]
    fn it_is_stable_and_changes_with_template_and_collisions() {
        let template = value!({"spec": {"containers": [{"name": "c"}]}});
        let hash = template_hash(&template, None);
        assert_eq!(hash, template_hash(&template, None));
        assert_ne!(hash, template_hash(&template, Some(1)));
        assert_ne!(hash, template_hash(&value!({"spec": {}}), None));
        assert!(
            hash.len() <= 10 && hash.bytes().all(|byte| ALPHABET.contains(&byte)),
            "{hash}"
        );
    }
}
