//! Continue tokens: where a chunked list goes on, and at which revision. Upstream's form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloudeck_machinery::{Status, json, value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContinueToken {
    /// `None` continues at the newest revision: an inconsistent list, as the client has been told.
    pub(crate) revision: Option<u64>,
    /// The last `namespace/name` that was sent.
    pub(crate) after: String,
}

impl ContinueToken {
    pub(crate) fn encode(&self) -> String {
        let revision = self.revision.map_or(-1, |revision| revision as i64);
        let start = format!("{}\0", self.after);
        let tree = value!({"v": "meta.k8s.io/v1", "rv": (revision), "start": (start)});
        URL_SAFE_NO_PAD.encode(json::to_vec(&tree))
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Status> {
        let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| invalid(&error.to_string()))?;
        let tree = json::parse(&bytes).map_err(|error| invalid(&error.to_string()))?;
        if tree.str_at(&["v"]) != Some("meta.k8s.io/v1") {
            return Err(invalid("server does not recognize this encoded version"));
        }
        let revision = tree.int_at(&["rv"]).unwrap_or(0);
        let start = tree.str_at(&["start"]).unwrap_or_default();
        if revision == 0 || start.is_empty() {
            return Err(invalid("incorrect encoded start resourceVersion"));
        }
        if start
            .split('/')
            .any(|segment| segment.trim_end_matches('\0') == "..")
        {
            return Err(invalid("the start key may not leave the resource"));
        }
        Ok(Self {
            revision: u64::try_from(revision).ok(),
            after: start.trim_end_matches('\0').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_round_trip() {
        for revision in [Some(7), None] {
            let token = ContinueToken {
                revision,
                after: "ns/name".into(),
            };
            assert_eq!(ContinueToken::decode(&token.encode()).unwrap(), token);
        }
    }

    #[test]
    fn a_foreign_token_is_refused() {
        assert_eq!(ContinueToken::decode("%%%").unwrap_err().code, 400);
        assert_eq!(ContinueToken::decode("e30").unwrap_err().code, 400);
    }
}
