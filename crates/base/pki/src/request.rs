//! Certificate signing requests: parsed, their signature checked, any key algorithm that webpki knows.

use std::net::IpAddr;

use rcgen::CertificateSigningRequestParams;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

/// A request whose signature is good.
#[derive(Clone)]
pub struct SigningRequest {
    /// The common name, empty if there is none.
    pub common_name: String,
    /// The organisations.
    pub organizations: Vec<String>,
    /// Requested DNS names.
    pub dns_names: Vec<String>,
    /// Requested addresses.
    pub addresses: Vec<IpAddr>,
    /// Requested mail addresses.
    pub emails: Vec<String>,
    /// Requested URIs.
    pub uris: Vec<String>,
    inner: CertificateSigningRequestParams,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum SigningRequestError {
    /// Not a PEM block of type CERTIFICATE REQUEST.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    NotPem,
    /// The request does not parse or its signature is wrong.
    #[error("the certificate request is not valid")]
    Invalid(#[source] rcgen::Error),
    /// The request's parts do not parse.
    #[error("the certificate request is malformed")]
    Malformed,
    /// The issuing library can write one organisation only.
    #[error("a certificate request with more than one organization is not supported")]
    SeveralOrganizations,
}

impl SigningRequest {
    /// Reads a PEM request.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SigningRequestError> {
        let der =
            CertificateSigningRequestDer::from_pem_slice(pem).map_err(|_| SigningRequestError::NotPem)?;
        let inner = CertificateSigningRequestParams::from_der(&der).map_err(SigningRequestError::Invalid)?;
        let (_, parsed) =
            X509CertificationRequest::from_der(&der).map_err(|_| SigningRequestError::Malformed)?;
        let subject = &parsed.certification_request_info.subject;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value
                .as_str()
                .map(str::to_owned)
                .map_err(|_| SigningRequestError::Malformed)
        };
        let mut request = Self {
            common_name: subject
                .iter_common_name()
                .next()
                .map(text)
                .transpose()?
                .unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            dns_names: Vec::new(),
            addresses: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            inner,
        };
        if request.organizations.len() > 1 {
            return Err(SigningRequestError::SeveralOrganizations);
        }
        for extension in parsed.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| request.add_name(name));
            }
        }
        Ok(request)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(mail) => self.emails.push((*mail).to_owned()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => {
                if let Ok(octets) = <[u8; 4]>::try_from(*bytes) {
                    self.addresses.push(octets.into());
                } else if let Ok(octets) = <[u8; 16]>::try_from(*bytes) {
                    self.addresses.push(octets.into());
                }
            }
            _ => {}
        }
    }

    pub(crate) fn inner(&self) -> &CertificateSigningRequestParams {
        &self.inner
    }
}
