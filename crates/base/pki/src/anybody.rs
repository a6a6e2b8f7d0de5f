//! TLS to servers of which nobody knows the certificate: probes ask whether something answers, not who, and the proxy
//! to pods speaks to whatever the pod serves.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::{self, TlsSetupError};

/// Settings of a client that takes any certificate and shows none: nothing secret may be sent with them.
pub fn unverified_client_config() -> Result<Arc<ClientConfig>, TlsSetupError> {
    with_provider(tls::provider())
}

fn with_provider(provider: Arc<CryptoProvider>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Accepts any certificate whose key the server holds.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rustls::{CipherSuite, ClientConnection, ServerConnection};

    use super::*;
    use crate::{CertificateAuthority, LeafRequest, ServingCertificate, Usage, client_config, server_config};

    /// Shakes hands, and tells what cipher they agreed on.
    fn shake(
        client: Arc<ClientConfig>,
        server: &Arc<rustls::ServerConfig>,
    ) -> Result<CipherSuite, rustls::Error> {
        let name = ServerName::try_from("elsewhere.test").unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.negotiated_cipher_suite().unwrap().suite())
    }

    #[test]
    fn any_certificate_will_do() {
        let now = SystemTime::now();
        let ours = CertificateAuthority::generate("ours", now).unwrap();
        let theirs = CertificateAuthority::generate("theirs", now).unwrap();
        let leaf = LeafRequest {
            common_name: "somebody".into(),
            organization: None,
            dns_names: vec!["somebody.test".into()],
            addresses: Vec::new(),
            usage: Usage::Server,
        };
        let pair = theirs.issue(&leaf, now, Duration::from_mins(1)).unwrap();
        let serving = Arc::new(ServingCertificate::new(&pair).unwrap());
        let server = server_config(serving, &[], &[]).unwrap();
        let agreed = shake(unverified_client_config().unwrap(), &server).unwrap();
        assert_eq!(agreed, CipherSuite::TLS13_AES_128_GCM_SHA256);
        let careful = client_config(ours.certificate_pem(), None, &[]).unwrap();
        shake(careful, &server).unwrap_err();
        // The server chooses, not a client that would rather have the longer key.
        let mut provider = rustls::crypto::ring::default_provider();
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_256_GCM_SHA384);
        let agreed = shake(with_provider(Arc::new(provider)).unwrap(), &server).unwrap();
        assert_eq!(agreed, CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}
