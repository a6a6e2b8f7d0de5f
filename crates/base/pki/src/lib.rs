//! Certificate authorities, certificates, the token key, and the TLS settings made of them.
//!
//! Everything generated is ECDSA P-256 (RSA alone would eat the second that a boot may take); requests and client
//! certificates with RSA keys are accepted. A cluster has three separate authorities: one that vouches for clients, one
//! for serving endpoints, one for front proxies, so that a serving certificate can never log in.
//!
//! Absences: knows no API object, opens no socket, reads no clock of its own (callers pass `now`), and holds no task:
//! who wants renewal calls [`ClusterPki::refresh`] when [`ClusterPki::renew_at`] has come.
//!
//! Start reading at [`ClusterPki::ensure`].

mod anybody;
mod authority;
mod cluster;
mod identity;
mod kubeconfig;
mod request;
mod storage;
mod tls;
mod token_key;

pub use anybody::unverified_client_config;
pub use authority::{AuthorityError, CertificateAuthority, KeyPairPem, LeafRequest, Usage};
pub use cluster::{ClusterPki, EnsureError, PkiConfig};
pub use identity::{CertificateIdentity, ClientCertificateError, ClientVerifier};
pub use kubeconfig::render_kubeconfig;
pub use request::{SigningRequest, SigningRequestError};
pub use tls::{ServingCertificate, TlsSetupError, client_config, server_config};
pub use token_key::{TokenKey, TokenKeyError};
