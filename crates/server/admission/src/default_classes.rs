//! DefaultStorageClass and DefaultIngressClass: who names no class gets the default one.

use std::cmp::Reverse;

use cloudeck_machinery::Value;

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal};

pub(crate) struct DefaultStorageClass;
pub(crate) struct DefaultIngressClass;

impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        const MARKS: [&str; 2] = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ];
        let named = has(&request.object, &["spec", "storageClassName"])
            || has(
                &request.object,
                &[
                    "metadata",
                    "annotations",
                    "volume.beta.kubernetes.io/storage-class",
                ],
            );
        if request.operation != Operation::Create || !request.is_for("", "persistentvolumeclaims") || named {
            return Ok(());
        }
        if let Some(class) = default_class(context, "storage.k8s.io", "storageclasses", &MARKS) {
            request.object.set_at(&["spec", "storageClassName"], class);
        }
        Ok(())
    }
}

impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        const MARKS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];
        let named = has(&request.object, &["spec", "ingressClassName"])
            || has(
                &request.object,
                &["metadata", "annotations", "kubernetes.io/ingress.class"],
            );
        if request.operation != Operation::Create
            || !request.is_for("networking.k8s.io", "ingresses")
            || named
        {
            return Ok(());
        }
        if let Some(class) = default_class(context, "networking.k8s.io", "ingressclasses", &MARKS) {
            request.object.set_at(&["spec", "ingressClassName"], class);
        }
        Ok(())
    }
}

fn has(object: &Value, path: &[&str]) -> bool {
    object.at(path).is_some_and(|value| !value.is_null())
}

/// Of several, the newest; of equally old ones, the first by name.
fn default_class(context: &Context<'_>, group: &str, resource: &str, marks: &[&str]) -> Option<String> {
    let classes = context.reader.list(group, resource, "");
    let trees = classes.iter().map(|class| class.tree());
    let marked = trees.filter(|class| {
        marks
            .iter()
            .any(|mark| class.str_at(&["metadata", "annotations", mark]) == Some("true"))
    });
    let text = |class: &Value, field| class.str_at(&["metadata", field]).unwrap_or_default().to_owned();
    marked
        .map(|class| (Reverse(text(&class, "creationTimestamp")), text(&class, "name")))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};
    use cloudeck_machinery::value;

    fn class(created: &str, default: &str) -> Value {
        let mut class = value!({"metadata": {"creationTimestamp": (created)}});
        class.set_at(
            &[
                "metadata",
                "annotations",
                "storageclass.kubernetes.io/is-default-class",
            ],
            default,
        );
        class
    }

    #[test]
    fn the_newest_default_class_is_taken() {
        let world = World::default()
            .with("storageclasses", "", "a", class("2026-01-01T00:00:00Z", "true"))
            .with("storageclasses", "", "c", class("2026-01-02T00:00:00Z", "true"))
            .with("storageclasses", "", "b", class("2026-01-02T00:00:00Z", "true"))
            .with("storageclasses", "", "d", class("2026-01-03T00:00:00Z", "false"));
        let user = nobody();
        let run = |spec: Value| {
            let claim = value!({"metadata": {"name": "x"}, "spec": (spec)});
            let claim = world
                .run(
                    &DefaultStorageClass,
                    create(&user, "persistentvolumeclaims", claim),
                )
                .unwrap();
            claim.str_at(&["spec", "storageClassName"]).map(str::to_owned)
        };
        assert_eq!(run(value!({})).as_deref(), Some("b"));
        assert_eq!(
            run(value!({"storageClassName": ""})).as_deref(),
            Some(""),
            "none is wanted"
        );
    }

    #[test]
    fn an_ingress_without_a_class_gets_the_default_one() {
        let mut class = Value::object();
        class.set_at(
            &[
                "metadata",
                "annotations",
                "ingressclass.kubernetes.io/is-default-class",
            ],
            "true",
        );
        let world = World::default().with("ingressclasses", "", "web", class);
        let user = nobody();
        let run = |object: Value| {
            let request = AdmissionRequest {
                group: "networking.k8s.io",
                ..create(&user, "ingresses", object)
            };
            world
                .run(&DefaultIngressClass, request)
                .unwrap()
                .str_at(&["spec", "ingressClassName"])
                .map(str::to_owned)
        };
        assert_eq!(run(value!({})).as_deref(), Some("web"));
        let mut annotated = Value::object();
        annotated.set_at(
            &["metadata", "annotations", "kubernetes.io/ingress.class"],
            "nginx",
        );
        assert_eq!(run(annotated), None);
    }
}
