//! OpenAPI v3 documents of the built-in group versions, in the form that kube-apiserver serves: what kubectl needs for
//! `explain`, for client-side validation and to learn which patches and parameters a kind takes.
//!
//! Built from the tables on request. Differences from upstream: no descriptions of fields, no deprecated `/watch/`
//! paths, no `x-kubernetes-unions`, and of media types only JSON.

mod paths;
mod schemas;

use std::fmt::Write as _;
use std::sync::OnceLock;

use cloudeck_machinery::{Map, Value, json, value};
use sha2::{Digest as _, Sha256};

use crate::resources::{GroupVersionInfo, group_versions};
use schemas::Schemas;

/// Paths below `/openapi/v3/` (`apis/apps/v1`) and the hash of each document, for the index at `/openapi/v3`.
///
/// Clients keep documents by hash, so it is that of the document itself. Computed on first use and kept.
pub fn index() -> Vec<(String, String)> {
    static INDEX: OnceLock<Vec<(String, String)>> = OnceLock::new();
    let compute = || {
        group_versions()
            .map(|served| (root_path(served), hash(&build(served))))
            .collect()
    };
    INDEX.get_or_init(compute).clone()
}

/// The document of a group version.
pub fn document(group: &str, version: &str) -> Option<Vec<u8>> {
    group_versions()
        .find(|served| served.group == group && served.version == version)
        .map(build)
}

/// `api/v1` or `apis/GROUP/VERSION`.
fn root_path(served: GroupVersionInfo) -> String {
    if served.group.is_empty() {
        format!("api/{}", served.version)
    } else {
        format!("apis/{}/{}", served.group, served.version)
    }
}

fn hash(document: &[u8]) -> String {
    Sha256::digest(document)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02X}").expect("writing to a string cannot fail");
            text
        })
}

fn build(served: GroupVersionInfo) -> Vec<u8> {
    let mut schemas = Schemas::default();
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
