//! A certificate authority: makes itself, and signs leaves and requests.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::rand::SecureRandom;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::request::SigningRequest;

/// How far certificates are back-dated, for clients whose clocks run behind.
const BACKDATE: Duration = Duration::from_hours(1);
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(24 * 3650);

/// Signs certificates. Cheap to use, not to clone: the key lives in one place.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

/// A certificate (with the chain, if any) and its private key, both PEM.
#[derive(Clone)]
pub struct KeyPairPem {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

/// What a leaf certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    /// The user or server name.
    pub common_name: String,
    /// The group, for a client.
    pub organization: Option<String>,
    /// Subject alternative names.
    pub dns_names: Vec<String>,
    /// Subject alternative addresses.
    pub addresses: Vec<IpAddr>,
    /// What the key may be used for.
    pub usage: Usage,
}

/// The extended key usage of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS server.
    Server,
    /// TLS client.
    Client,
}

/// Why an authority could not be made, loaded or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate library refused.
    #[error("cannot make a certificate")]
    Generate(#[source] rcgen::Error),
    /// The stored authority does not parse.
    #[error("cannot read the stored certificate authority")]
    Load(#[source] rcgen::Error),
    /// The stored authority has no certificate.
    #[error("the stored certificate authority holds no certificate")]
    NoCertificate,
    /// The system gave no random bytes.
    #[error("cannot get random bytes")]
    NoRandom,
}

impl CertificateAuthority {
    /// A new authority with its own key.
    pub fn generate(common_name: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + AUTHORITY_LIFETIME).into();
        params.serial_number = Some(random_serial()?);
        let certificate = params.self_signed(&key).map_err(AuthorityError::Generate)?;
        let key_pem = key.serialize_pem();
        Ok(Self {
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority stored as `pem`.
    pub fn load(pem: &KeyPairPem) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(&pem.key).map_err(AuthorityError::Load)?;
        let certificate = CertificateDer::from_pem_slice(pem.certificate.as_bytes())
            .map_err(|_| AuthorityError::NoCertificate)?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Load)?,
            certificate,
            certificate_pem: pem.certificate.clone(),
            key_pem: pem.key.clone(),
        })
    }

    /// A new key and a certificate for it.
    pub fn issue(
        &self,
        leaf: &LeafRequest,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<KeyPairPem, AuthorityError> {
        let key = new_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(&leaf.common_name, leaf.organization.as_deref());
        for name in &leaf.dns_names {
            let name = name.as_str().try_into().map_err(AuthorityError::Generate)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params
            .subject_alt_names
            .extend(leaf.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        finish_leaf(&mut params, &[leaf.usage], now, lifetime)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(AuthorityError::Generate)?;
        Ok(KeyPairPem {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Signs a request, PEM. Subject and names are the request's, usages and lifetime the caller's.
    pub fn sign(
        &self,
        request: &SigningRequest,
        usages: &[Usage],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<String, AuthorityError> {
        let mut inner = request.inner().clone();
        finish_leaf(&mut inner.params, usages, now, lifetime)?;
        let certificate = inner.signed_by(&self.issuer).map_err(AuthorityError::Generate)?;
        Ok(certificate.pem())
    }

    /// The authority's own certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's own certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn to_pem(&self) -> KeyPairPem {
        KeyPairPem {
            certificate: self.certificate_pem.clone(),
            key: self.key_pem.clone(),
        }
    }
}

fn finish_leaf(
    params: &mut CertificateParams,
    usages: &[Usage],
    now: SystemTime,
    lifetime: Duration,
) -> Result<(), AuthorityError> {
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages
        .iter()
        .map(|usage| match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        })
        .collect();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + lifetime).into();
    params.serial_number = Some(random_serial()?);
    Ok(())
}

fn distinguished_name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn new_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Generate)
}

/// 127 random bits: positive, and never the same twice.
fn random_serial() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0_u8; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| AuthorityError::NoRandom)?;
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}
