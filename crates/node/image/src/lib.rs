//! Images of the node: pull from registries, import from files, content store, unpacked layers, root file systems.
//!
//! [`ImageStore`] owns one directory: `blobs/sha256` (content by digest), `snapshots` (unpacked layers by chain id),
//! `rootfs` (one directory per container), `images.json` (names), `tmp` (everything not yet complete). Each step gives
//! its result a name only when it is complete, so a crash leaves nothing but content to collect (`durability.rs` tells
//! what a power failure leaves).
//!
//! Everything that comes from a registry or an archive is hostile until checked: digests while streaming, paths by
//! `openat2` without links, sizes against limits. Does not know: Kubernetes (pull policies and back-off are the
//! agent's), mounts (it only names the directories of an overlay), the environment.
//! Start reading at [`ImageStore`], then `install.rs` for the order of writes and `unpack.rs` for the hostile part.

mod blobs;
mod config;
mod credentials;
mod durability;
mod gc;
mod import;
mod index;
mod install;
mod pull;
mod registry;
mod remove;
mod rootfs;
mod snapshots;
mod store;
mod tar;
mod unpack;

pub use blobs::BlobError;
pub use cloudeck_oci::{ImageConfig, Reference};
pub use config::StoreConfig;
pub use credentials::{AuthFile, Credentials, ParseAuthFileError};
pub use gc::{CollectError, Collected};
pub use import::{ImportError, ImportSource};
pub use index::IndexError;
pub use install::InstallError;
pub use pull::{Pull, PullError, PullProgress};
pub use registry::RegistryError;
pub use registry::download::DownloadError;
pub use registry::http::HttpError;
pub use rootfs::{RootFs, RootFsError};
pub use store::{Image, ImageError, ImageStore, OpenStoreError};
pub use unpack::{UnpackError, UnpackLimits};
