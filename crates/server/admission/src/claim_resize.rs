//! PersistentVolumeClaimResize: a claim grows only if it is bound and its class allows it.

use cloudeck_machinery::{Quantity, Value};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal, Remarks};

pub(crate) struct PersistentVolumeClaimResize;

impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        let Some(old) = request.old else { return Ok(()) };
        let updates = request.operation == Operation::Update && request.is_for("", "persistentvolumeclaims");
        if !updates || size(&request.object) <= size(old) {
            return Ok(());
        }
        if old.str_at(&["status", "phase"]) != Some("Bound") {
            return Err(request.forbid("Only bound persistent volume claims can be expanded"));
        }
        let class = class_name(old);
        let found = context.reader.get("storage.k8s.io", "storageclasses", "", class);
        let growable =
            found.is_some_and(|class| class.tree().bool_at(&["allowVolumeExpansion"]) == Some(true));
        if class.is_empty() || class != class_name(&request.object) || !growable {
            return Err(request.forbid(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            ));
        }
        Ok(())
    }
}

fn size(claim: &Value) -> Quantity {
    let text = claim.str_at(&["spec", "resources", "requests", "storage"]);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn class_name(claim: &Value) -> &str {
    let annotation = claim.str_at(&[
        "metadata",
        "annotations",
        "volume.beta.kubernetes.io/storage-class",
    ]);
    annotation
        .or_else(|| claim.str_at(&["spec", "storageClassName"]))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};
    use cloudeck_machinery::value;

    fn claim(phase: &str, size: &str, class: &str) -> Value {
        value!({
            "metadata": {"name": "c"}, "status": {"phase": (phase)},
            "spec": {"storageClassName": (class), "resources": {"requests": {"storage": (size)}}}
        })
    }

    fn grow(old: Value, new: Value) -> Result<(), String> {
        let world = World::default().with(
            "storageclasses",
            "",
            "grows",
            value!({"allowVolumeExpansion": true}),
        );
        let user = nobody();
        let base = create(&user, "persistentvolumeclaims", new);
        let request = AdmissionRequest {
            operation: Operation::Update,
            name: "c",
            old: Some(&old),
            ..base
        };
        world.run(&PersistentVolumeClaimResize, request).map(drop)
    }

    #[test]
    fn only_a_bound_claim_of_a_growing_class_grows() {
        assert_eq!(
            grow(claim("Bound", "1Gi", "grows"), claim("Bound", "2Gi", "grows")),
            Ok(())
        );
        assert_eq!(
            grow(claim("Pending", "1Gi", "x"), claim("Pending", "1024Mi", "x")),
            Ok(()),
            "the same size"
        );
        assert_eq!(
            grow(claim("Pending", "1Gi", "grows"), claim("Pending", "2Gi", "grows")).unwrap_err(),
            r#"persistentvolumeclaims "c" is forbidden: Only bound persistent volume claims can be expanded"#
        );
        assert!(
            grow(claim("Bound", "1Gi", "fixed"), claim("Bound", "2Gi", "fixed"))
                .unwrap_err()
                .contains("must support resize")
        );
    }
}
