//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction: who may approve and sign requests of a signer,
//! and that no request makes a master.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cloudeck_auth::Attributes;
use cloudeck_machinery::Value;
use cloudeck_machinery::quote::quote;

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal, Remarks};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(crate) struct CertificateApproval;
pub(crate) struct CertificateSigning;
pub(crate) struct CertificateSubjectRestriction;

impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        match request.old {
            Some(old)
                if request.operation == Operation::Update
                    && request.is_under(GROUP, REQUESTS, "approval") =>
            {
                check_right(request, context, "approve", signer_of(old))
            }
            _ => Ok(()),
        }
    }
}

impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        let Some(old) = request.old else { return Ok(()) };
        if request.operation != Operation::Update || !request.is_under(GROUP, REQUESTS, "status") {
            return Ok(());
        }
        let certificate = ["status", "certificate"];
        let conditions = ["status", "conditions"];
        let unchanged = request.object.at(&certificate) == old.at(&certificate)
            && request.object.items_at(&conditions) == old.items_at(&conditions);
        if unchanged {
            Ok(())
        } else {
            check_right(request, context, "sign", signer_of(old))
        }
    }
}

impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        _context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        let creates = request.operation == Operation::Create && request.is_for(GROUP, REQUESTS);
        if !creates || signer_of(&request.object) != CLIENT_SIGNER {
            return Ok(());
        }
        let pem = STANDARD
            .decode(request.object.str_at(&["spec", "request"]).unwrap_or_default())
            .unwrap_or_default();
        let parsed = cloudeck_pki::SigningRequest::from_pem(&pem)
            .map_err(|error| request.forbid(format!("failed to parse CSR: {error}")))?;
        if parsed
            .organizations
            .iter()
            .any(|group| group == cloudeck_auth::groups::MASTERS)
        {
            let why = format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
            return Err(request.forbid(why));
        }
        Ok(())
    }
}

fn signer_of(request: &Value) -> &str {
    request.str_at(&["spec", "signerName"]).unwrap_or_default()
}

/// Asks for the signer by name, then for all signers of its domain.
fn check_right(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    verb: &str,
    signer: &str,
) -> Result<(), Refusal> {
    let domain = signer.split('/').next().unwrap_or_default();
    let every = format!("{domain}/*");
    let question = Attributes::resource(request.user, verb, GROUP, "signers");
    if [signer, &every]
        .iter()
        .any(|name| context.authorizer.authorize(&question.of(name)).is_allowed())
    {
        return Ok(());
    }
    Err(request.forbid(format!(
        "user not permitted to {verb} requests with signerName {}",
        quote(signer)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};
    use cloudeck_machinery::value;

    fn write(plugin: &dyn Plugin, rights: &[&str], subresource: &str, object: Value) -> Result<(), String> {
        let user = nobody();
        let old = value!({"metadata": {"name": "r"}, "spec": {"signerName": "example.com/x"}});
        let request = AdmissionRequest {
            operation: Operation::Update,
            group: GROUP,
            subresource,
            namespace: "",
            name: "r",
            old: Some(&old),
            ..create(&user, REQUESTS, object)
        };
        World::with_rights(rights).run(plugin, request).map(drop)
    }

    #[test]
    fn approval_and_signing_need_the_right_to_the_signer() {
        let signed = || value!({"spec": {"signerName": "other/y"}, "status": {"certificate": "abc"}});
        assert_eq!(
            write(&CertificateApproval, &[], "approval", signed()).unwrap_err(),
            r#"certificatesigningrequests.certificates.k8s.io "r" is forbidden: user not permitted to approve requests with signerName "example.com/x""#
        );
        assert_eq!(
            write(
                &CertificateSigning,
                &["approve signers/ example.com/x"],
                "status",
                signed()
            )
            .unwrap_err(),
            r#"certificatesigningrequests.certificates.k8s.io "r" is forbidden: user not permitted to sign requests with signerName "example.com/x""#
        );
        assert_eq!(
            write(
                &CertificateApproval,
                &["approve signers/ example.com/x"],
                "approval",
                signed()
            ),
            Ok(())
        );
        assert_eq!(
            write(
                &CertificateSigning,
                &["sign signers/ example.com/*"],
                "status",
                signed()
            ),
            Ok(())
        );
        assert_eq!(
            write(&CertificateSigning, &[], "status", value!({})),
            Ok(()),
            "nothing is signed"
        );
    }

    /// Made with `openssl req -new -newkey ec -subj /O=system:masters/CN=x`; the key was thrown away.
    const MASTER: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIHfMIGHAgEAMCUxFzAVBgNVBAoMDnN5c3RlbTptYXN0ZXJzMQowCAYDVQQDDAF4
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZsIFDMTWSwe53+xfQnY+MRxFLbx/
OMQffVh+x4xPLLDluS1mtGVjB5Jjm7Bwo2bowYM1NgkjyAynXQxkONZ/3aAAMAoG
CCqGSM49BAMCA0cAMEQCIGLT6+61FSKviC+Wy8X4eA/1o2YYLoqlGJMxo1Zxhr/I
AiBJ8CEwlgvIiBi4IbxyBvZGG9sTtFleY0QJ49Qm3kFTrA==
-----END CERTIFICATE REQUEST-----
";

    #[test]
    fn no_request_makes_a_master() {
        let user = nobody();
        let ask = |signer: &str| {
            let object = value!({"metadata": {"name": "r"}, "spec": {"signerName": (signer), "request": (STANDARD.encode(MASTER))}});
            let request = AdmissionRequest {
                group: GROUP,
                namespace: "",
                ..create(&user, REQUESTS, object)
            };
            World::default()
                .run(&CertificateSubjectRestriction, request)
                .map(drop)
        };
        assert_eq!(
            ask(CLIENT_SIGNER).unwrap_err(),
            r#"certificatesigningrequests.certificates.k8s.io "r" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"#
        );
        assert_eq!(ask("example.com/x"), Ok(()));
    }
}
