use super::*;
use std::time::Duration;

use cloudeck_machinery::Object;
use cloudeck_pki::{ClusterPki, PkiConfig};
use rustls_pki_types::pem::PemObject;

use crate::token::TokenIssuerConfig;
use crate::user::groups;

struct Nothing;

impl ObjectReader for Nothing {
    fn get(&self, _: &str, _: &str, _: &str, _: &str) -> Option<Arc<Object>> {
        None
    }

    fn list(&self, _: &str, _: &str, _: &str) -> Vec<Arc<Object>> {
        Vec::new()
    }
}

struct Lab {
    authenticator: Authenticator,
    pki: ClusterPki,
    now: SystemTime,
}

fn lab() -> Lab {
    let directory = tempfile::tempdir().unwrap();
    let config = PkiConfig {
        node_name: "n1".to_owned(),
        node_addresses: vec![],
        service_address: "10.96.0.1".parse().unwrap(),
        cluster_domain: "cluster.local".to_owned(),
        extra_names: vec![],
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let pki = ClusterPki::ensure(directory.path(), &config, now).unwrap();
    let issuer = TokenIssuerConfig {
        issuer: "https://i".to_owned(),
        audiences: vec!["https://i".to_owned()],
    };
    let authenticator = Authenticator::new(
        ClientVerifier::new(pki.client_authority.certificate()).unwrap(),
        ClientVerifier::new(pki.front_proxy_authority.certificate()).unwrap(),
        Arc::new(TokenIssuer::new(issuer, pki.token_key.clone())),
    );
    Lab {
        authenticator,
        pki,
        now,
    }
}

impl Lab {
    fn login(
        &self,
        certificate: Option<&str>,
        headers: &[(&'static str, &str)],
        later: Duration,
    ) -> Result<Arc<UserInfo>, String> {
        let chain: Vec<_> = certificate
            .map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .into_iter()
            .collect();
        let peer = self.authenticator.peer(&chain, self.now);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        self.authenticator
            .authenticate(&peer, &map, &Nothing, self.now + later)
            .map_err(|error| cloudeck_telemetry::chain(&error))
    }
}

#[test]
fn without_credentials_a_request_is_anonymous() {
    let lab = lab();
    for headers in [
        &[][..],
        &[("authorization", "Basic eDp5")],
        &[("authorization", "Bearer ")],
        &[("x-remote-user", "root")],
    ] {
        let user = lab.login(None, headers, Duration::ZERO).unwrap();
        assert_eq!(*user, UserInfo::anonymous(), "{headers:?}");
    }
}

#[test]
fn a_client_certificate_names_user_and_groups() {
    let lab = lab();
    let user = lab
        .login(Some(&lab.pki.admin.certificate), &[], Duration::ZERO)
        .unwrap();
    assert_eq!(
        (user.name.as_str(), user.groups.as_slice()),
        (
            "kubernetes-admin",
            &["system:masters".to_owned(), groups::AUTHENTICATED.to_owned()][..]
        )
    );
    assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
}

#[test]
fn a_certificate_that_ends_during_the_connection_is_refused() {
    let lab = lab();
    let year = Duration::from_hours(24 * 366);
    let refused = lab
        .login(Some(&lab.pki.admin.certificate), &[], year)
        .unwrap_err();
    assert_eq!(refused, "the client certificate has expired");
}

#[test]
fn a_foreign_certificate_or_token_is_refused_even_without_need() {
    let (lab, other) = (lab(), lab());
    let refused = lab
        .login(Some(&other.pki.admin.certificate), &[], Duration::ZERO)
        .unwrap_err();
    assert!(
        refused.starts_with("the client certificate is refused: the client certificate is not valid"),
        "{refused}"
    );
    for token in ["Bearer x", "bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.e30."] {
        let refused = lab
            .login(None, &[("authorization", token)], Duration::ZERO)
            .unwrap_err();
        assert!(refused.starts_with("invalid bearer token"), "{refused}");
    }
}

#[test]
fn a_front_proxy_is_believed_by_its_own_authority_only() {
    let lab = lab();
    let request = cloudeck_pki::LeafRequest {
        common_name: "front-proxy-client".to_owned(),
        organization: None,
        dns_names: vec![],
        addresses: vec![],
        usage: cloudeck_pki::Usage::Client,
    };
    let proxy = lab
        .pki
        .front_proxy_authority
        .issue(&request, lab.now, Duration::from_hours(1))
        .unwrap();
    let headers = [
        ("x-remote-user", "jane"),
        ("x-remote-group", "a"),
        ("x-remote-group", "b"),
        ("x-remote-extra-k%2f1", "v"),
    ];
    let user = lab
        .login(Some(&proxy.certificate), &headers, Duration::ZERO)
        .unwrap();
    assert_eq!(
        (user.name.as_str(), user.groups.as_slice()),
        (
            "jane",
            &["a".to_owned(), "b".to_owned(), groups::AUTHENTICATED.to_owned()][..]
        )
    );
    assert_eq!(user.extra["k/1"], ["v"]);
    lab.login(Some(&proxy.certificate), &[], Duration::ZERO)
        .unwrap_err();
    let admin = lab
        .login(Some(&lab.pki.admin.certificate), &headers, Duration::ZERO)
        .unwrap();
    assert_eq!(
        admin.name, "kubernetes-admin",
        "a client's headers are not believed"
    );
}
