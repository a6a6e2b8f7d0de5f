//! NamespaceLifecycle: nothing is created in a namespace that is missing or ending; some namespaces stay for ever.

use cloudeck_machinery::{Cause, CauseType, Status};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal};

const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(crate) struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        let is_namespace = request.group.is_empty() && request.resource == "namespaces";
        if is_namespace && request.operation == Operation::Delete && IMMORTAL.contains(&request.name) {
            let status = Status::forbidden(
                "",
                "namespaces",
                request.name,
                "this namespace may not be deleted",
            );
            return Err(Refusal::new(status));
        }
        let answers_about_access =
            request.group == "authorization.k8s.io" && request.resource == "localsubjectaccessreviews";
        let creates_inside = !is_namespace
            && !request.namespace.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Connect);
        if !creates_inside || answers_about_access {
            return Ok(());
        }
        let Some(namespace) = context.reader.get("", "namespaces", "", request.namespace) else {
            return Err(Refusal::new(Status::not_found(
                "",
                "namespaces",
                request.namespace,
            )));
        };
        let ending = namespace.kept_tree().str_at(&["status", "phase"]) == Some("Terminating");
        if !ending || request.operation != Operation::Create {
            return Ok(());
        }
        let name = request.namespace;
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let mut refusal = request.forbid(why);
        let cause = Cause {
            cause: CauseType::NamespaceTerminating,
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        };
        refusal.status = Box::new(refusal.status.with_causes(vec![cause]));
        Err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};
    use cloudeck_machinery::value;

    fn world() -> World {
        World::default()
            .with("namespaces", "", "dev", value!({"status": {"phase": "Active"}}))
            .with(
                "namespaces",
                "",
                "old",
                value!({"status": {"phase": "Terminating"}}),
            )
    }

    fn pod_in(namespace: &str) -> Result<(), String> {
        let user = nobody();
        let mut request = create(&user, "pods", value!({"metadata": {"generateName": "p-"}}));
        request.namespace = namespace;
        world().run(&NamespaceLifecycle, request).map(drop)
    }

    #[test]
    fn pods_are_created_in_living_namespaces_only() {
        assert_eq!(pod_in("dev"), Ok(()));
        assert_eq!(pod_in("gone").unwrap_err(), r#"namespaces "gone" not found"#);
        assert_eq!(
            pod_in("old").unwrap_err(),
            r#"pods "p-" is forbidden: unable to create new content in namespace old because it is being terminated"#
        );
    }

    #[test]
    fn the_refusal_in_an_ending_namespace_has_its_own_cause() {
        let user = nobody();
        let mut request = create(&user, "pods", value!({}));
        request.namespace = "old";
        let refusal = world().admit(&NamespaceLifecycle, &mut request).unwrap_err();
        let status = refusal.status.to_value().to_string();
        assert!(
            status.contains(r#""causes":[{"field":"metadata.namespace","message":"namespace old is being terminated","reason":"NamespaceTerminating"}]"#),
            "{status}"
        );
    }

    #[test]
    fn updates_and_deletions_go_on_while_a_namespace_ends() {
        let user = nobody();
        for operation in [Operation::Update, Operation::Delete] {
            let request = AdmissionRequest {
                operation,
                namespace: "old",
                ..create(&user, "pods", value!({}))
            };
            assert!(world().run(&NamespaceLifecycle, request).is_ok());
        }
    }

    #[test]
    fn the_systems_namespaces_are_not_deleted() {
        let user = nobody();
        let delete = |name| {
            let base = create(&user, "namespaces", value!(null));
            world().run(
                &NamespaceLifecycle,
                AdmissionRequest {
                    operation: Operation::Delete,
                    name,
                    namespace: name,
                    ..base
                },
            )
        };
        assert_eq!(
            delete("kube-system").unwrap_err(),
            r#"namespaces "kube-system" is forbidden: this namespace may not be deleted"#
        );
        assert!(delete("dev").is_ok() && delete("kube-node-lease").is_ok());
    }
}
