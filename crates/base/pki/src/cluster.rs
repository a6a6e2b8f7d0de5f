//! Everything one cluster's first node needs: made at first start, kept, renewed.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authority::{AuthorityError, CertificateAuthority, KeyPairPem, LeafRequest, Usage};
use crate::storage::SecretDirectory;
use crate::token_key::{TokenKey, TokenKeyError};

const LEAF_LIFETIME: Duration = Duration::from_hours(24 * 365);
/// A leaf with less than this left is issued anew.
const RENEW_BEFORE: Duration = Duration::from_hours(24 * 73);

/// What certificates say about this machine and cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiConfig {
    /// The node's name.
    pub node_name: String,
    /// All addresses of the node.
    pub node_addresses: Vec<IpAddr>,
    /// The address of Service `default/kubernetes`: the first of the service range.
    pub service_address: IpAddr,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
    /// Further names under which the API server is reached.
    pub extra_names: Vec<String>,
}

/// The keys and certificates of a cluster with one control-plane node.
pub struct ClusterPki {
    directory: PathBuf,
    /// Vouches for clients; published as `extension-apiserver-authentication/client-ca-file`.
    pub client_authority: CertificateAuthority,
    /// Vouches for servers; published as `kube-root-ca.crt`.
    pub serving_authority: CertificateAuthority,
    /// Vouches for front proxies.
    pub front_proxy_authority: CertificateAuthority,
    /// Signs service-account tokens.
    pub token_key: Arc<TokenKey>,
    /// The API server's serving certificate.
    pub apiserver: KeyPairPem,
    /// The node agent's serving certificate (port 10250).
    pub kubelet: KeyPairPem,
    /// The first administrator: group `system:masters`, which no role binding can lock out.
    pub admin: KeyPairPem,
    /// The node's client certificate: `system:node:NAME` in `system:nodes`.
    pub node: KeyPairPem,
    /// What the API server shows to node agents: user `kube-apiserver-kubelet-client`, without a group; the bootstrap
    /// binds it to `system:kubelet-api-admin` and nothing else.
    pub kubelet_client: KeyPairPem,
    renew_at: SystemTime,
}

/// Why the keys of a cluster could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum EnsureError {
    /// The directory cannot be used.
    #[error("cannot use {path}")]
    Storage {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A stored authority or token key is damaged. It is never replaced silently: every credential hangs on it.
    #[error(
        "{path} is damaged: restore it from a backup, or remove it to give up all credentials made with it"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// A certificate could not be issued.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The token key could not be made.
    #[error(transparent)]
    TokenKey(#[from] TokenKeyError),
}

impl ClusterPki {
    /// Loads what `directory` holds and makes what it lacks. Leaves that name other addresses than `config`, that come
    /// near their end or that another authority signed are issued anew.
    pub fn ensure(directory: &Path, config: &PkiConfig, now: SystemTime) -> Result<Self, EnsureError> {
        let files = SecretDirectory::open(directory).map_err(|source| EnsureError::Storage {
            path: directory.to_owned(),
            source,
        })?;
        let mut store = Store {
            files,
            dirty: false,
            now,
            renew_at: now + LEAF_LIFETIME,
        };
        let client_authority = store.authority("client-ca", "cloudeck-client-ca")?;
        let serving_authority = store.authority("serving-ca", "cloudeck-serving-ca")?;
        let front_proxy_authority = store.authority("front-proxy-ca", "cloudeck-front-proxy-ca")?;
        let token_key = Arc::new(store.token_key()?);
        let pki = Self {
            apiserver: store.leaf("apiserver", &serving_authority, &apiserver_request(config))?,
            kubelet: store.leaf("kubelet", &serving_authority, &kubelet_request(config))?,
            admin: store.leaf(
                "admin",
                &client_authority,
                &client("kubernetes-admin", Some("system:masters")),
            )?,
            node: store.leaf("node", &client_authority, &node_request(config))?,
            kubelet_client: store.leaf(
                "kubelet-client",
                &client_authority,
                &client("kube-apiserver-kubelet-client", None),
            )?,
            directory: directory.to_owned(),
            client_authority,
            serving_authority,
            front_proxy_authority,
            token_key,
            renew_at: store.renew_at,
        };
        store.finish()?;
        Ok(pki)
    }

    /// Issues anew what a change of `config` or the time demands. The authorities and the token key stay.
    pub fn refresh(&self, config: &PkiConfig, now: SystemTime) -> Result<Self, EnsureError> {
        Self::ensure(&self.directory, config, now)
    }

    /// When [`ClusterPki::refresh`] will next have something to do though no address changed.
    pub fn renew_at(&self) -> SystemTime {
        self.renew_at
    }
}

fn apiserver_request(config: &PkiConfig) -> LeafRequest {
    let domain = &config.cluster_domain;
    let mut dns_names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        .map(str::to_owned)
        .into_iter()
        .chain([
            format!("kubernetes.default.svc.{domain}"),
            config.node_name.clone(),
            "localhost".to_owned(),
        ])
        .collect();
    dns_names.extend(config.extra_names.iter().cloned());
    let mut addresses = vec![config.service_address];
    addresses.extend(node_addresses(config));
    serving("kube-apiserver", None, dns_names, addresses)
}

fn kubelet_request(config: &PkiConfig) -> LeafRequest {
    let name = format!("system:node:{}", config.node_name);
    let dns_names = vec![config.node_name.clone(), "localhost".to_owned()];
    serving(
        &name,
        Some("system:nodes"),
        dns_names,
        node_addresses(config).collect(),
    )
}

fn node_addresses(config: &PkiConfig) -> impl Iterator<Item = IpAddr> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    config.node_addresses.iter().copied().chain(loopback)
}

fn node_request(config: &PkiConfig) -> LeafRequest {
    client(&format!("system:node:{}", config.node_name), Some("system:nodes"))
}

fn serving(
    common_name: &str,
    organization: Option<&str>,
    dns_names: Vec<String>,
    addresses: Vec<IpAddr>,
) -> LeafRequest {
    let unique_names: BTreeSet<String> = dns_names.into_iter().collect();
    let unique_addresses: BTreeSet<IpAddr> = addresses.into_iter().collect();
    LeafRequest {
        common_name: common_name.to_owned(),
        organization: organization.map(str::to_owned),
        dns_names: unique_names.into_iter().collect(),
        addresses: unique_addresses.into_iter().collect(),
        usage: Usage::Server,
    }
}

fn client(common_name: &str, organization: Option<&str>) -> LeafRequest {
    LeafRequest {
        common_name: common_name.to_owned(),
        organization: organization.map(str::to_owned),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Client,
    }
}

/// The directory during one `ensure`.
struct Store {
    files: SecretDirectory,
    dirty: bool,
    now: SystemTime,
    renew_at: SystemTime,
}

impl Store {
    fn authority(&mut self, name: &str, common_name: &str) -> Result<CertificateAuthority, EnsureError> {
        let file = format!("{name}.pem");
        if let Some(bundle) = self.read(&file)? {
            let damaged = || EnsureError::Damaged {
                path: self.files.path_of(&file),
            };
            let pair = KeyPairPem::split(&bundle).ok_or_else(damaged)?;
            return CertificateAuthority::load(&pair).map_err(|_| damaged());
        }
        let authority = CertificateAuthority::generate(common_name, self.now)?;
        self.write(&file, &authority.to_pem().bundle(), true)?;
        Ok(authority)
    }

    fn token_key(&mut self) -> Result<TokenKey, EnsureError> {
        let file = "token-key.pem";
        if let Some(pem) = self.read(file)? {
            return TokenKey::load(&pem).map_err(|_| EnsureError::Damaged {
                path: self.files.path_of(file),
            });
        }
        let key = TokenKey::generate()?;
        self.write(file, &key.to_pem(), true)?;
        Ok(key)
    }

    fn leaf(
        &mut self,
        name: &str,
        authority: &CertificateAuthority,
        request: &LeafRequest,
    ) -> Result<KeyPairPem, EnsureError> {
        let file = format!("{name}.pem");
        // A leaf that cannot be read as text is as good as none.
        let stored = self.files.read(&file).ok().flatten();
        if let Some(pair) = stored.as_deref().and_then(KeyPairPem::split)
            && let Some(end) = still_good(&pair, authority, request, self.now)
        {
            self.renew_at = self.renew_at.min(end - RENEW_BEFORE);
            return Ok(pair);
        }
        let pair = authority.issue(request, self.now, LEAF_LIFETIME)?;
        self.renew_at = self.renew_at.min(self.now + LEAF_LIFETIME - RENEW_BEFORE);
        self.write(&file, &pair.bundle(), false)?;
        Ok(pair)
    }

    fn read(&self, file: &str) -> Result<Option<String>, EnsureError> {
        self.files.read(file).map_err(|source| EnsureError::Storage {
            path: self.files.path_of(file),
            source,
        })
    }

    fn write(&mut self, file: &str, content: &str, durable: bool) -> Result<(), EnsureError> {
        self.dirty |= durable;
        self.files
            .replace(file, content, durable)
            .map_err(|source| EnsureError::Storage {
                path: self.files.path_of(file),
                source,
            })
    }

    fn finish(self) -> Result<(), EnsureError> {
        if !self.dirty {
            return Ok(());
        }
        self.files.sync().map_err(|source| EnsureError::Storage {
            path: self.files.path_of(""),
            source,
        })
    }
}

/// The end of a stored leaf, if it still says what `request` wants, the key fits, `authority` signed it and its end
/// is not near.
fn still_good(
    pair: &KeyPairPem,
    authority: &CertificateAuthority,
    request: &LeafRequest,
    now: SystemTime,
) -> Option<SystemTime> {
    crate::tls::ServingCertificate::new(pair).ok()?;
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let (_, issuer) = X509Certificate::from_der(authority.certificate()).ok()?;
    certificate.verify_signature(Some(issuer.public_key())).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    let organization = certificate
        .subject()
        .iter_organization()
        .next()
        .and_then(|name| name.as_str().ok());
    if name != request.common_name || organization != request.organization.as_deref() {
        return None;
    }
    let (names, addresses) = alternative_names(&certificate)?;
    let wanted_names: BTreeSet<String> = request.dns_names.iter().cloned().collect();
    let wanted_addresses: BTreeSet<IpAddr> = request.addresses.iter().copied().collect();
    if names != wanted_names || addresses != wanted_addresses {
        return None;
    }
    let seconds = |time: i64| u64::try_from(time).ok().map(Duration::from_secs);
    let end = SystemTime::UNIX_EPOCH + seconds(certificate.validity().not_after.timestamp())?;
    let start = SystemTime::UNIX_EPOCH + seconds(certificate.validity().not_before.timestamp())?;
    (start <= now && now + RENEW_BEFORE < end).then_some(end)
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Option<(BTreeSet<String>, BTreeSet<IpAddr>)> {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    let extension = certificate.subject_alternative_name().ok()?;
    for name in extension
        .iter()
        .flat_map(|extension| &extension.value.general_names)
    {
        match name {
            GeneralName::DNSName(name) => {
                names.insert((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                let address = <[u8; 4]>::try_from(*bytes)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                    .ok()?;
                addresses.insert(address);
            }
            _ => return None,
        }
    }
    Some((names, addresses))
}

#[cfg(test)]
mod tests;
