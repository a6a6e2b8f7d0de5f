//! What every built-in kind looks like, and everything that follows from that alone: normalisation, the protobuf
//! codec, discovery and OpenAPI documents.
//!
//! The facts are generated (`cargo xtask codegen`) from upstream's Go modules into `tables/`, offset-encoded and
//! decoded on the fly, so that they cost no relocations and no start-up time. Pure functions over
//! [`cloudeck_machinery::Value`]. Knows nothing of storage, requests, or hand-written rules of single kinds
//! (`cloudeck-strategy` has those). Start reading at [`TypeRef`] and [`ResourceInfo`].

mod blob;
mod declarative;
pub mod discovery;
mod normalise;
pub mod openapi;
pub mod protobuf;
mod resources;
mod types;
mod walk;

pub use declarative::declarative_errors;
pub use normalise::{TypeError, normalise};
pub use resources::{
    GroupVersionInfo, ResourceInfo, StorageKind, Subresource, group_versions, resource, resource_by_kind,
    resources, type_of_kind,
};
pub use types::{Field, ListKeys, ListKind, Omit, Scalar, Shape, TypeRef};
pub use walk::{apply_defaults, unknown_fields, write_json};
