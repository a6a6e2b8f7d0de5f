//! What a store is told when it is opened.

use std::path::PathBuf;
use std::time::Duration;

use cloudeck_net::resolve::Resolver;

use crate::unpack::UnpackLimits;

/// Configuration of an [`crate::ImageStore`]. A plain value: nothing here is read from the environment.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Files of PEM certificates that registries are verified against; the first that exists counts.
    pub certificate_bundles: Vec<PathBuf>,
    /// Registries (`host` or `host:port`) spoken to by plain HTTP. Loopback addresses and `localhost` always are,
    /// after HTTPS was tried.
    pub insecure_registries: Vec<String>,
    /// Limits for each layer.
    pub limits: UnpackLimits,
    /// Layers downloaded at once for one image.
    pub parallel_downloads: usize,
    /// Size that one image may have: compressed where it is pulled, as an unpacked archive where it is imported.
    pub image_bytes_max: u64,
    /// How often a request that failed for a passing reason is sent again.
    pub retries: u32,
    /// Before the first of these; doubled each time.
    pub retry_delay: Duration,
    /// Resolves the names of registries.
    pub resolver: Resolver,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let bundles = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/ssl/cert.pem",
        ];
        Self {
            certificate_bundles: bundles.map(PathBuf::from).to_vec(),
            insecure_registries: Vec::new(),
            limits: UnpackLimits::default(),
            parallel_downloads: 4,
            image_bytes_max: 64 << 30,
            retries: 3,
            retry_delay: Duration::from_millis(250),
            resolver: Resolver::system(),
        }
    }
}
