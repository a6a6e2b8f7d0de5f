//! Manifests and indexes: what an image consists of, and which image is for which platform.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::media_type;

/// A pointer to content: its type, digest and exact size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// One image: its configuration and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, for platforms or (in an OCI layout) for names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
}

/// An operating system and processor, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// What a manifest request may bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Why a document is neither a manifest nor an index.
#[derive(Debug, thiserror::Error)]
pub enum ParseManifestError {
    #[error("malformed manifest")]
    Json(#[source] serde_json::Error),
    #[error("unsupported manifest media type {0:?}")]
    MediaType(String),
    #[error("image format schema 1 is not supported")]
    Schema1,
}

impl Document {
    /// Reads a document. The type stated inside it counts, then the one of the transport (`content_type`), then its
    /// shape; two that contradict each other are refused, so that nobody reads the same bytes as something else.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ParseManifestError> {
        let outline: Outline = serde_json::from_slice(bytes).map_err(ParseManifestError::Json)?;
        if outline.schema_version == Some(1) || outline.has_fs_layers {
            return Err(ParseManifestError::Schema1);
        }
        if outline.has_manifests && (outline.has_layers || outline.has_config) {
            return Err(ParseManifestError::MediaType(
                "both manifest and index".to_owned(),
            ));
        }
        let transport = content_type.filter(|t| media_type::is_index(t) || media_type::is_manifest(t));
        let stated = outline
            .media_type
            .as_deref()
            .filter(|t| !t.is_empty())
            .or(transport);
        let is_index = match stated {
            Some(stated) if media_type::is_index(stated) => true,
            Some(stated) if media_type::is_manifest(stated) => false,
            Some(other) => return Err(ParseManifestError::MediaType(other.to_owned())),
            None => outline.has_manifests,
        };
        let parsed = if is_index {
            serde_json::from_slice(bytes).map(Self::Index)
        } else {
            serde_json::from_slice(bytes).map(Self::Manifest)
        };
        parsed.map_err(ParseManifestError::Json)
    }
}

/// The members by which documents are told apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u32>,
    media_type: Option<String>,
    #[serde(default, rename = "manifests", deserialize_with = "presence")]
    has_manifests: bool,
    #[serde(default, rename = "layers", deserialize_with = "presence")]
    has_layers: bool,
    #[serde(default, rename = "config", deserialize_with = "presence")]
    has_config: bool,
    #[serde(default, rename = "fsLayers", deserialize_with = "presence")]
    has_fs_layers: bool,
}

fn presence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<serde::de::IgnoredAny>::deserialize(deserializer)?.is_some())
}

/// Go writes an absent slice or map as `null`.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Index {
    /// The best manifest for a platform: the exact variant, else one without a variant, else any variant that the
    /// processor runs; entries without a platform count only where no entry has one.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let rank = |descriptor: &Descriptor| match &descriptor.platform {
            None => Some(3),
            Some(offered) if offered.os != wanted.os || offered.architecture != wanted.architecture => None,
            Some(offered) if offered.variant == wanted.variant => Some(0),
            Some(Platform { variant: None, .. }) => Some(1),
            Some(offered) => runs(wanted, offered).then_some(2),
        };
        let readable = |d: &&Descriptor| {
            d.media_type.is_empty()
                || media_type::is_manifest(&d.media_type)
                || media_type::is_index(&d.media_type)
        };
        let ranked = self
            .manifests
            .iter()
            .filter(readable)
            .filter_map(|d| rank(d).map(|r| (r, d)));
        ranked
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, descriptor)| descriptor)
    }
}

/// Whether a processor of the wanted variant runs code for the offered one (`v8` runs `v7`; unknown runs anything
/// up to the baseline of its architecture).
fn runs(wanted: &Platform, offered: &Platform) -> bool {
    let level = |p: &Platform| {
        p.variant
            .as_deref()
            .and_then(|v| v.strip_prefix('v'))
            .and_then(|v| v.parse::<u8>().ok())
    };
    let baseline = if wanted.architecture == "arm64" { 8 } else { 1 };
    level(offered).is_some_and(|offered| offered <= level(wanted).unwrap_or(baseline))
}

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests;
