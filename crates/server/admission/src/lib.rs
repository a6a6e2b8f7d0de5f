//! Admission: what a write must satisfy beyond its own validity, and what is filled in from other objects.
//!
//! [`admit`] runs the mutating half of every plug-in before validation, [`validate`] the validating half after it, in
//! upstream's order. A plug-in looks at an [`AdmissionRequest`] and at other objects through a [`Context`].
//!
//! Absences: no I/O, no clock, no waiting. A plug-in that would be satisfied by an object that is expected soon says so in
//! [`Refusal::awaits`]; whether to wait is the server's business. Webhooks and policies in CEL are not here.
//! ResourceQuota is no plug-in: what it writes belongs into the transaction of the write, so [`charge`] only tells.
//!
//! Start reading at [`Plugin`] and [`PLUGINS`].

mod certificates;
mod claim_resize;
mod default_classes;
mod default_tolerations;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod owner_references;
mod pod_security;
mod priority;
mod request;
mod resource_quota;
mod runtime_class;
mod service_account;
mod taint_nodes;
#[cfg(test)]
mod testing;

pub use request::{AdmissionRequest, Awaited, Context, Operation, Refusal, Remarks};
pub use resource_quota::{Charge, charge};

/// One admission plug-in. Both halves default to consent.
pub trait Plugin: Sync {
    /// Upstream's name.
    fn name(&self) -> &'static str;

    /// Changes the object, or refuses.
    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        let _ = (request, context);
        Ok(())
    }

    /// Refuses, or consents with remarks.
    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        let _ = (request, context, remarks);
        Ok(())
    }
}

/// All plug-ins, in upstream's order.
pub const PLUGINS: &[&dyn Plugin] = &[
    &namespace_lifecycle::NamespaceLifecycle,
    &limit_ranger::LimitRanger,
    &service_account::ServiceAccount,
    &node_restriction::NodeRestriction,
    &taint_nodes::TaintNodesByCondition,
    &pod_security::PodSecurity,
    &priority::Priority,
    &default_tolerations::DefaultTolerationSeconds,
    &default_classes::DefaultStorageClass,
    &owner_references::OwnerReferencesPermissionEnforcement,
    &claim_resize::PersistentVolumeClaimResize,
    &runtime_class::RuntimeClass,
    &certificates::CertificateApproval,
    &certificates::CertificateSigning,
    &certificates::CertificateSubjectRestriction,
    &default_classes::DefaultIngressClass,
];

/// Runs the mutating halves: after defaulting, before validation.
pub fn admit(request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
    PLUGINS
        .iter()
        .try_for_each(|plugin| plugin.admit(request, context))
}

/// Runs the validating halves, after validation.
pub fn validate(request: &AdmissionRequest<'_>, context: &Context<'_>) -> Result<Remarks, Refusal> {
    let mut remarks = Remarks::default();
    PLUGINS
        .iter()
        .try_for_each(|plugin| plugin.validate(request, context, &mut remarks))?;
    Ok(remarks)
}
