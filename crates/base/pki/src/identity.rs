//! Client certificates: the chain is checked here, after the handshake, so that a bad one gets a 401 and not a broken
//! connection, as upstream does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Object identifier under which upstream puts a user's uid into the subject.
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// Who a verified client certificate says its holder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The common name.
    pub user: String,
    /// The organisations.
    pub groups: Vec<String>,
    /// The uid, where the subject has one.
    pub uid: Option<String>,
    /// SHA-256 over the certificate, lower-case hexadecimal.
    pub fingerprint: String,
    /// When the certificate ends; a connection may outlive it.
    pub not_after: SystemTime,
}

/// Why a client certificate is refused.
#[derive(Debug, thiserror::Error)]
pub enum ClientCertificateError {
    /// The peer sent none.
    #[error("no client certificate")]
    Missing,
    /// The chain does not lead to the authority, or is not valid now, or not for clients.
    #[error("the client certificate is not valid")]
    Untrusted(#[source] rustls::Error),
    /// The certificate does not parse.
    #[error("the client certificate does not parse")]
    Malformed,
    /// The subject names nobody.
    #[error("the client certificate has no common name")]
    NoCommonName,
    /// The subject names a uid twice, or an empty one.
    #[error("the client certificate has a malformed uid")]
    BadUid,
}

/// Checks client certificates against one authority.
pub struct ClientVerifier {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientVerifier {
    /// A verifier that trusts `authority`.
    pub fn new(authority: &CertificateDer<'_>) -> Result<Self, ClientCertificateError> {
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.clone().into_owned())
            .map_err(ClientCertificateError::Untrusted)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| ClientCertificateError::Untrusted(rustls::Error::General(error.to_string())))?;
        Ok(Self { verifier })
    }

    /// The identity in `chain` (end entity first), if it is valid at `now`.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<CertificateIdentity, ClientCertificateError> {
        let (leaf, intermediates) = chain.split_first().ok_or(ClientCertificateError::Missing)?;
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(|_| ClientCertificateError::Malformed)?;
        self.verifier
            .verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since_epoch))
            .map_err(ClientCertificateError::Untrusted)?;
        read_identity(leaf)
    }
}

fn read_identity(leaf: &CertificateDer<'_>) -> Result<CertificateIdentity, ClientCertificateError> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| ClientCertificateError::Malformed)?;
    let subject = certificate.subject();
    let user = subject
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .filter(|name| !name.is_empty())
        .ok_or(ClientCertificateError::NoCommonName)?
        .to_owned();
    let mut groups = Vec::new();
    for organization in subject.iter_organization() {
        groups.push(
            organization
                .as_str()
                .map_err(|_| ClientCertificateError::Malformed)?
                .to_owned(),
        );
    }
    let mut uids = subject
        .iter_attributes()
        .filter(|attribute| attribute.attr_type().to_id_string() == UID_OID);
    let uid = match (uids.next(), uids.next()) {
        (None, _) => None,
        (Some(attribute), None) => match attribute.as_str() {
            Ok(uid) if !uid.is_empty() => Some(uid.to_owned()),
            _ => return Err(ClientCertificateError::BadUid),
        },
        (Some(_), Some(_)) => return Err(ClientCertificateError::BadUid),
    };
    let end = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or_default();
    Ok(CertificateIdentity {
        user,
        groups,
        uid,
        fingerprint: fingerprint(leaf),
        not_after: SystemTime::UNIX_EPOCH + Duration::from_secs(end),
    })
}

fn fingerprint(leaf: &CertificateDer<'_>) -> String {
    use std::fmt::Write;
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    digest
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        })
}
