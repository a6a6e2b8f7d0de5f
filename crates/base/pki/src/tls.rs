//! TLS settings: servers that can change their certificate while they run, and clients that trust one authority.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::authority::KeyPairPem;

/// Why TLS settings could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// Certificate or key is not PEM.
    #[error("the certificate or its key is not valid PEM")]
    NotPem(#[source] rustls_pki_types::pem::Error),
    /// rustls refuses them.
    #[error("cannot use the certificate")]
    Refused(#[source] rustls::Error),
}

/// A server's certificate, which may be replaced under running connections; new handshakes get the new one.
pub struct ServingCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServingCertificate {
    /// Starts with `pair`.
    pub fn new(pair: &KeyPairPem) -> Result<Self, TlsSetupError> {
        Ok(Self {
            current: RwLock::new(Arc::new(certified_key(pair)?)),
        })
    }

    /// Serves `pair` from now on.
    pub fn replace(&self, pair: &KeyPairPem) -> Result<(), TlsSetupError> {
        let fresh = Arc::new(certified_key(pair)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// The certificate that the next handshake will get, DER.
    pub fn certificate(&self) -> CertificateDer<'static> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current
            .cert
            .first()
            .cloned()
            .expect("a certified key has a certificate")
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServingCertificate")
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

/// Settings of a server that asks for a client certificate but does not insist. Possession of the key is proven in the
/// handshake; whom the certificate names is checked later, by [`crate::ClientVerifier`], so that a bad certificate ends
/// in a 401. `authorities` are hints that make clients choose the right certificate.
pub fn server_config(
    certificate: Arc<ServingCertificate>,
    authorities: &[CertificateDer<'_>],
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let provider = provider();
    let mut hints = RootCertStore::empty();
    for authority in authorities {
        hints
            .add(authority.clone().into_owned())
            .map_err(TlsSetupError::Refused)?;
    }
    let verifier = AskForCertificate {
        hints: hints.subjects(),
        provider: provider.clone(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Refused)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(certificate);
    // The order below is ours: see `provider`.
    config.ignore_client_order = true;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Settings of a client that trusts the authorities in `authority_pem` and shows `identity`, if there is one.
pub fn client_config(
    authority_pem: &str,
    identity: Option<&KeyPairPem>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority_pem.as_bytes()) {
        roots
            .add(certificate.map_err(TlsSetupError::NotPem)?)
            .map_err(TlsSetupError::Refused)?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Refused)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = parse(pair)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsSetupError::Refused)?
        }
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Ring's, with AES-128 first, as Go's standard library has it: a list of 5,000 pods is 7 MB, on which both sides would
/// spend a third more time with the longer key, against nobody who could break the shorter one.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

fn certified_key(pair: &KeyPairPem) -> Result<CertifiedKey, TlsSetupError> {
    let (chain, key) = parse(pair)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(TlsSetupError::Refused)
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn parse(pair: &KeyPairPem) -> Result<ChainAndKey, TlsSetupError> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsSetupError::NotPem)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(TlsSetupError::NotPem)?;
    Ok((chain, key))
}

/// Accepts any certificate whose key the client holds. See [`server_config`] for who judges it.
#[derive(Debug)]
struct AskForCertificate {
    hints: Vec<DistinguishedName>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AskForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
