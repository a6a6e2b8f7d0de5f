//! Types of the OCI image and distribution specifications, and of their Docker ancestors.
//!
//! Pure data: names ([`Reference`]), content identifiers ([`Digest`]), manifests, indexes and image configurations,
//! with the reading rules of both families. Every type here reads hostile input: what it accepts is safe to use as a
//! path component or in a URL.
//!
//! Does not know: sockets, files, hashing (a digest is compared, never computed here), Kubernetes.
//! Start reading at [`Reference`] and [`Manifest`].

pub mod config;
pub mod digest;
pub mod manifest;
pub mod media_type;
pub mod reference;

pub use config::{ConfigFile, ImageConfig};
pub use digest::{Digest, ParseDigestError};
pub use manifest::{Descriptor, Document, Index, Manifest, ParseManifestError, Platform};
pub use reference::{ParseReferenceError, Reference};
