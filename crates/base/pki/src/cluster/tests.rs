use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::*;
use crate::{
    ClientCertificateError, ClientVerifier, ServingCertificate, SigningRequest, client_config, server_config,
};

const DAY: Duration = Duration::from_hours(24);

fn config() -> PkiConfig {
    PkiConfig {
        node_name: "node-a".to_owned(),
        node_addresses: vec!["10.1.2.3".parse().unwrap(), "fd00::5".parse().unwrap()],
        service_address: "10.96.0.1".parse().unwrap(),
        cluster_domain: "cluster.local".to_owned(),
        extra_names: vec!["api.example".to_owned()],
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)
}

fn ensure(directory: &Path) -> ClusterPki {
    ClusterPki::ensure(directory, &config(), now()).unwrap()
}

fn der(pair: &KeyPairPem) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
}

fn contents(directory: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                std::fs::read_to_string(path).unwrap(),
            )
        })
        .collect()
}

/// Completes a handshake in memory and returns what the server learned of the client.
fn handshake(
    client: Arc<rustls::ClientConfig>,
    server: Arc<rustls::ServerConfig>,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(client, name).unwrap();
    let mut server = rustls::ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut wire.as_slice()).unwrap();
    server.process_new_packets()?;
    Ok(server.peer_certificates().unwrap_or_default().to_vec())
}

#[test]
fn a_second_start_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    ensure(directory.path());
    let before = contents(directory.path());
    assert_eq!(before.len(), 9);
    ensure(directory.path());
    assert_eq!(contents(directory.path()), before);
}

#[test]
fn every_file_is_for_the_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pki");
    ensure(&path);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(
            entry.unwrap().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}

#[test]
fn a_new_address_reissues_the_serving_certificates_only() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ensure(directory.path());
    let before = contents(directory.path());
    let mut moved = config();
    moved.node_addresses = vec!["10.9.9.9".parse().unwrap()];
    pki.refresh(&moved, now()).unwrap();
    let changed: Vec<String> = contents(directory.path())
        .into_iter()
        .filter(|(name, text)| before[name] != *text)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(changed, ["apiserver.pem", "kubelet.pem"]);
}

#[test]
fn leaves_are_renewed_before_they_end_and_authorities_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ensure(directory.path());
    let before = contents(directory.path());
    assert!(pki.renew_at() > now() + 200 * DAY);
    let early = pki.refresh(&config(), pki.renew_at() - DAY).unwrap();
    assert_eq!(contents(directory.path()), before);
    let late = early.refresh(&config(), pki.renew_at() + DAY).unwrap();
    assert!(late.renew_at() > pki.renew_at() + 200 * DAY);
    let kept: Vec<String> = contents(directory.path())
        .into_iter()
        .filter(|(name, text)| before[name] == *text)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        kept,
        [
            "client-ca.pem",
            "front-proxy-ca.pem",
            "serving-ca.pem",
            "token-key.pem"
        ]
    );
}

#[test]
fn a_torn_leaf_is_issued_anew_but_a_torn_authority_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ensure(directory.path());
    let admin = directory.path().join("admin.pem");
    std::fs::write(&admin, &pki.admin.bundle()[..300]).unwrap();
    let again = ensure(directory.path());
    assert_ne!(again.admin.certificate, pki.admin.certificate);

    let authority = directory.path().join("client-ca.pem");
    let whole = std::fs::read_to_string(&authority).unwrap();
    std::fs::write(&authority, &whole[..whole.len() - 40]).unwrap();
    let refused = ClusterPki::ensure(directory.path(), &config(), now())
        .err()
        .unwrap();
    assert!(
        matches!(&refused, EnsureError::Damaged { path } if *path == authority),
        "{refused}"
    );
}

#[test]
fn a_leaf_of_another_authority_is_issued_anew() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ensure(directory.path());
    std::fs::remove_file(directory.path().join("client-ca.pem")).unwrap();
    let again = ensure(directory.path());
    assert_ne!(again.admin.certificate, pki.admin.certificate);
    assert_eq!(again.apiserver.certificate, pki.apiserver.certificate);
}

#[test]
fn clients_trust_every_name_and_address_of_the_api_server() {
    let directory = tempfile::tempdir().unwrap();
    // The handshake uses the real clock.
    let pki = ClusterPki::ensure(directory.path(), &config(), SystemTime::now()).unwrap();
    let certificate = Arc::new(ServingCertificate::new(&pki.apiserver).unwrap());
    let server = server_config(
        certificate,
        &[pki.client_authority.certificate().clone()],
        &[b"h2"],
    )
    .unwrap();
    let client = client_config(
        pki.serving_authority.certificate_pem(),
        Some(&pki.admin),
        &[b"h2"],
    )
    .unwrap();
    for name in [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "node-a",
        "localhost",
        "api.example",
        "10.96.0.1",
        "10.1.2.3",
        "fd00::5",
        "127.0.0.1",
        "::1",
    ] {
        let shown = handshake(client.clone(), server.clone(), name).unwrap();
        assert_eq!(shown, [der(&pki.admin)], "{name}");
    }
    handshake(client, server, "elsewhere").unwrap_err();
}

#[test]
fn the_admin_is_a_master_and_the_node_is_a_node() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ensure(directory.path());
    let verifier = ClientVerifier::new(pki.client_authority.certificate()).unwrap();
    let who = |pair: &KeyPairPem| {
        let identity = verifier.verify(&[der(pair)], now()).unwrap();
        assert_eq!(identity.fingerprint.len(), 64);
        (identity.user, identity.groups)
    };
    assert_eq!(
        who(&pki.admin),
        ("kubernetes-admin".to_owned(), vec!["system:masters".to_owned()])
    );
    assert_eq!(
        who(&pki.node),
        ("system:node:node-a".to_owned(), vec!["system:nodes".to_owned()])
    );
    assert_eq!(
        who(&pki.kubelet_client),
        ("kube-apiserver-kubelet-client".to_owned(), vec![])
    );
}

#[test]
fn a_certificate_that_is_foreign_or_for_serving_or_outdated_does_not_log_in() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ensure(directory.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = ensure(elsewhere.path());
    let verifier = ClientVerifier::new(pki.client_authority.certificate()).unwrap();
    let refused = |pair: &KeyPairPem, at: SystemTime| verifier.verify(&[der(pair)], at).unwrap_err();
    assert!(matches!(
        refused(&foreign.admin, now()),
        ClientCertificateError::Untrusted(_)
    ));
    assert!(matches!(
        refused(&pki.kubelet, now()),
        ClientCertificateError::Untrusted(_)
    ));
    assert!(matches!(
        refused(&pki.admin, now() + 400 * DAY),
        ClientCertificateError::Untrusted(_)
    ));
    assert!(matches!(
        verifier.verify(&[], now()).unwrap_err(),
        ClientCertificateError::Missing
    ));
    verifier
        .verify(&[der(&pki.admin)], now() - Duration::from_mins(59))
        .unwrap();
}

#[test]
fn a_foreign_certificate_passes_the_handshake_so_that_it_can_be_answered_401() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ClusterPki::ensure(directory.path(), &config(), SystemTime::now()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = ClusterPki::ensure(elsewhere.path(), &config(), SystemTime::now()).unwrap();
    let certificate = Arc::new(ServingCertificate::new(&pki.apiserver).unwrap());
    let server = server_config(certificate.clone(), &[], &[]).unwrap();
    let trusted = pki.serving_authority.certificate_pem();
    let client = client_config(trusted, Some(&foreign.admin), &[]).unwrap();
    assert_eq!(
        handshake(client, server.clone(), "localhost").unwrap(),
        [der(&foreign.admin)]
    );
    let nobody = client_config(trusted, None, &[]).unwrap();
    assert!(
        handshake(nobody.clone(), server.clone(), "localhost")
            .unwrap()
            .is_empty()
    );

    certificate.replace(&pki.kubelet).unwrap();
    assert_eq!(certificate.certificate(), der(&pki.kubelet));
    handshake(nobody, server, "kubernetes").unwrap_err();
}

#[test]
fn tokens_are_signed_with_the_same_key_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let first = ensure(directory.path());
    let signature = first.token_key.sign(b"header.payload").unwrap();
    let second = ensure(directory.path());
    assert_eq!(first.token_key.id(), second.token_key.id());
    assert!(second.token_key.verify(b"header.payload", &signature));
    assert!(!second.token_key.verify(b"header.payloae", &signature));
    let (x, y) = second.token_key.public_coordinates();
    assert_eq!((x.len(), y.len()), (43, 43));
}

#[test]
fn a_request_is_signed_with_its_own_subject_and_the_callers_usages() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ensure(directory.path());
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params =
        rcgen::CertificateParams::new(vec!["web.example".to_owned(), "10.0.0.9".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "dev");
    params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let request = SigningRequest::from_pem(pem.as_bytes()).unwrap();
    assert_eq!(request.common_name, "jane");
    assert_eq!(request.organizations, ["dev"]);
    assert_eq!(request.dns_names, ["web.example"]);
    assert_eq!(request.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);

    let signed = pki
        .client_authority
        .sign(&request, &[Usage::Client], now(), DAY)
        .unwrap();
    let verifier = ClientVerifier::new(pki.client_authority.certificate()).unwrap();
    let leaf = CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
    let identity = verifier.verify(&[leaf], now()).unwrap();
    assert_eq!(
        (identity.user.as_str(), identity.groups.as_slice()),
        ("jane", &["dev".to_owned()][..])
    );
    assert!(SigningRequest::from_pem(pki.admin.certificate.as_bytes()).is_err());
}

/// Made with `openssl req -new -newkey rsa:2048 -subj /O=dev/CN=rsa-jane`; the key was thrown away.
const RSA_REQUEST: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIICZjCCAU4CAQAwITEMMAoGA1UECgwDZGV2MREwDwYDVQQDDAhyc2EtamFuZTCC
ASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBALQv+Ud/kN8KgNbWNPaCSj4h
SHLUKWcqG4MjKbubZlOzCana+DrCCI+AQmmoBUprE/ioCIUkn4q4k//qJgUTzjSg
LDfoewXaTSZiw+2ngTPLIZsuVOZmGT/+jcBcoArUXcxsl1RGnZVRMaFJ2Af2Hetc
vxUDqglUNF10ZQp6NXyE9GOuUdy7N70Qm8zee1++XfVpKiMua7UpQqZ8dUj6NQFd
a/bZ2yigdcdSqB7E3yWaZ5l/vsRSkty3TpkMzKstsCO8EKuk5FXYNSGIvODAZ17F
astFGPZ6JK+OiGLYzqyMU7EHFw/7U7E95aDkv7K6OhinvGpsG54l9tj2rTFu1d0C
AwEAAaAAMA0GCSqGSIb3DQEBCwUAA4IBAQAmdV8zSAyKmWs3hqfL2wpoAbHKaXau
gJorZk2QKKmkT54FwileOpwEmtqsOHYZ4wgl4jNG3dqptuhSZ5uQmBGrhiex94g1
ey5t19Gwldq7t/rXlLY7zuBhZ6t5zlQIEaauYSZUP8lncB61ZKwopHgsQZEhoazq
X3kBOKpVftBRThJNHXdfpirYTDXXrv+PU1ckp6iMJnpGCZXxNxMZeRp7FBg+FGMa
/ojAKcs4fb5z7hp7q6vcDwbIqYkkveOycXNxSvGBU72HQrwsTMm0Cc0UDAD1msoF
B4HGueeuNIoGqE41HK+ZQL98C6DeVm/Nw14EQoXS6NcGM17eBOotfr3E
-----END CERTIFICATE REQUEST-----
";

#[test]
fn a_request_with_an_rsa_key_is_signed_and_logs_in() {
    let directory = tempfile::tempdir().unwrap();
    let pki = ensure(directory.path());
    let request = SigningRequest::from_pem(RSA_REQUEST.as_bytes()).unwrap();
    let signed = pki
        .client_authority
        .sign(&request, &[Usage::Client], now(), DAY)
        .unwrap();
    let verifier = ClientVerifier::new(pki.client_authority.certificate()).unwrap();
    let leaf = CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
    assert_eq!(verifier.verify(&[leaf], now()).unwrap().user, "rsa-jane");
}

#[test]
fn a_kubeconfig_embeds_everything_and_quotes_names() {
    let pair = KeyPairPem {
        certificate: "CERT".to_owned(),
        key: "KEY".to_owned(),
    };
    let text = crate::render_kubeconfig("a\"b", "https://127.0.0.1:6443", "CA", &pair);
    let expected = r#"apiVersion: v1
kind: Config
clusters:
- name: "a\"b"
  cluster:
    server: "https://127.0.0.1:6443"
    certificate-authority-data: Q0E=
users:
- name: "a\"b"
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
contexts:
- name: "a\"b"
  context:
    cluster: "a\"b"
    user: "a\"b"
current-context: "a\"b"
preferences: {}
"#;
    assert_eq!(text, expected);
}
