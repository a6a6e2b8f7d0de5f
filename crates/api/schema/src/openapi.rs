//! OpenAPI v3 documents of the built-in group versions, in the form that kube-apiserver serves: what kubectl needs for
//! `explain`, for client-side validation and to learn which patches and parameters a kind takes.
//!
//! Built from the tables on request; descriptions come from outside ([`Descriptions`]). Differences from upstream:
//! no deprecated `/watch/` paths, no `x-kubernetes-unions`, no texts on operations and parameters, and of media types
//! those that this server speaks.

mod descriptions;
mod parameters;
mod paths;
mod schemas;

use std::fmt::Write as _;
use std::sync::OnceLock;

use cloudeck_machinery::{Map, Value, json, value};
use sha2::{Digest as _, Sha256};

use crate::resources::{GroupVersionInfo, group_versions};
pub use descriptions::{Descriptions, DescriptionsError};
use schemas::Schemas;

/// The documents of every served group version, with descriptions or without.
///
/// Keeps neither documents nor descriptions: these are loaded for a request and dropped after it.
#[derive(Default)]
pub struct Documents {
    descriptions: Option<fn() -> Descriptions>,
    index: OnceLock<Vec<(String, String)>>,
}

impl Documents {
    pub const fn new(descriptions: Option<fn() -> Descriptions>) -> Self {
        Self {
            descriptions,
            index: OnceLock::new(),
        }
    }

    /// Paths below `/openapi/v3/` (`apis/apps/v1`) and the hash of each document, for the index at `/openapi/v3`.
    ///
    /// Clients keep documents by hash, so it is that of the document itself. Computed on first use and kept.
    pub fn index(&self) -> &[(String, String)] {
        self.index.get_or_init(|| {
            let descriptions = self.descriptions.map(|load| load());
            group_versions()
                .map(|served| (root_path(served), hash(&build(served, descriptions.as_ref()))))
                .collect()
        })
    }

    /// The document of a group version.
    pub fn document(&self, group: &str, version: &str) -> Option<Vec<u8>> {
        let served = group_versions().find(|served| served.group == group && served.version == version)?;
        let descriptions = self.descriptions.map(|load| load());
        Some(build(served, descriptions.as_ref()))
    }
}

/// `api/v1` or `apis/GROUP/VERSION`.
fn root_path(served: GroupVersionInfo) -> String {
    if served.group.is_empty() {
        format!("api/{}", served.version)
    } else {
        format!("apis/{}/{}", served.group, served.version)
    }
}

/// The name by which clients keep a document.
pub fn hash(document: &[u8]) -> String {
    Sha256::digest(document)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02X}").expect("writing to a string cannot fail");
            text
        })
}

fn build(served: GroupVersionInfo, descriptions: Option<&Descriptions>) -> Vec<u8> {
    let mut schemas = Schemas::new(served, descriptions);
    let paths: Map = paths::paths_of(served, &mut schemas);
    json::to_vec(&value!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": (paths),
        "components": {
            "schemas": (schemas.finish()),
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "description": "Bearer Token authentication",
                    "name": "authorization",
                    "in": "header",
                },
            },
        },
    }))
}

/// A reference to a schema of the document.
fn reference(name: &str) -> Value {
    value!({"$ref": (format!("#/components/schemas/{name}"))})
}

#[cfg(test)]
mod tests;
