//! OwnerReferencesPermissionEnforcement: who names an owner lets the garbage collector delete the object, and may hold up
//! the owner's deletion; both need the right.

use cloudeck_auth::{Attributes, Decision};
use cloudeck_machinery::Value;
use cloudeck_machinery::object::split_api_version;

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal, Remarks};

pub(crate) struct OwnerReferencesPermissionEnforcement;

impl Plugin for OwnerReferencesPermissionEnforcement {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        // A pod's status cannot change its owners.
        if !writes || request.is_under("", "pods", "status") {
            return Ok(());
        }
        let old_owners = request.old.map(owners).unwrap_or_default();
        if owners(&request.object) == old_owners {
            return Ok(());
        }
        if request.operation != Operation::Create {
            check_delete(request, context)?;
        }
        let blocking: Vec<&Value> = owners(&request.object)
            .iter()
            .filter(|owner| blocks(owner))
            .filter(|owner| !old_owners.iter().any(|old| same_owner(old, owner) && blocks(old)))
            .collect();
        if blocking.is_empty() {
            return Ok(());
        }
        let anything = Attributes {
            version: "*",
            ..Attributes::resource(request.user, "update", "*", "*")
        };
        if context
            .authorizer
            .authorize(&anything.under("finalizers").of("*"))
            .is_allowed()
        {
            return Ok(());
        }
        blocking
            .into_iter()
            .try_for_each(|owner| check_finalizers(request, context, owner))
    }
}

fn check_delete(request: &AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
    let question = Attributes::resource(request.user, "delete", request.group, request.resource);
    let question = Attributes {
        version: request.version,
        ..question
    };
    let question = question
        .in_namespace(request.namespace)
        .of(request.name)
        .under(request.subresource);
    match refused(&context.authorizer.authorize(&question)) {
        None => Ok(()),
        Some(why) => Err(request.forbid(format!(
            "cannot set an ownerRef on a resource you can't delete: {why}"
        ))),
    }
}

fn check_finalizers(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    owner: &Value,
) -> Result<(), Refusal> {
    let text = |field| owner.str_at(&[field]).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = split_api_version(api_version);
    let Some(resource) = cloudeck_schema::resource_by_kind(group, version, kind) else {
        return Err(request.forbid(format!(
            "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: no matches for kind \"{kind}\" in version \"{api_version}\""
        )));
    };
    let namespace = if resource.namespaced {
        request.namespace
    } else {
        ""
    };
    let question = Attributes::resource(request.user, "update", group, resource.plural);
    let question = Attributes { version, ..question };
    let question = question
        .in_namespace(namespace)
        .of(text("name"))
        .under("finalizers");
    match refused(&context.authorizer.authorize(&question)) {
        None => Ok(()),
        Some(why) => Err(request.forbid(format!(
            "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {why}"
        ))),
    }
}

/// The reason and the error (of which there is none) as upstream joins them.
fn refused(decision: &Decision) -> Option<String> {
    (!decision.is_allowed()).then(|| format!("{}, <nil>", decision.reason))
}

fn owners(object: &Value) -> &[Value] {
    object.items_at(&["metadata", "ownerReferences"])
}

fn blocks(owner: &Value) -> bool {
    owner.bool_at(&["blockOwnerDeletion"]) == Some(true)
}

fn same_owner(one: &Value, other: &Value) -> bool {
    one.str_at(&["uid"]) == other.str_at(&["uid"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};
    use cloudeck_machinery::value;

    fn owned(block: bool) -> Value {
        value!({"metadata": {"name": "p", "ownerReferences": [{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "blockOwnerDeletion": (block)
        }]}})
    }

    fn run(operation: Operation, rights: &[&str], object: Value, old: Option<&Value>) -> Result<(), String> {
        let user = nobody();
        let world = World::with_rights(rights);
        let request = AdmissionRequest {
            operation,
            old,
            name: "p",
            ..create(&user, "pods", object)
        };
        world
            .run(&OwnerReferencesPermissionEnforcement, request)
            .map(drop)
    }

    #[test]
    fn a_new_object_may_have_an_owner() {
        assert_eq!(run(Operation::Create, &[], owned(false), None), Ok(()));
    }

    #[test]
    fn blocking_the_owners_deletion_needs_the_right_to_its_finalizers() {
        assert_eq!(
            run(Operation::Create, &[], owned(true), None).unwrap_err(),
            r#"pods "p" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>"#
        );
        assert_eq!(
            run(
                Operation::Create,
                &["update replicasets/finalizers rs"],
                owned(true),
                None
            ),
            Ok(())
        );
        assert_eq!(
            run(Operation::Create, &["update */finalizers *"], owned(true), None),
            Ok(())
        );
        let mut unknown = owned(true);
        unknown
            .at_mut(&["metadata", "ownerReferences"])
            .unwrap()
            .as_array_mut()
            .unwrap()[0]
            .set_at(&["kind"], "Widget");
        assert!(
            run(Operation::Create, &[], unknown, None)
                .unwrap_err()
                .contains("cannot find RESTMapping for APIVersion apps/v1 Kind Widget")
        );
    }

    #[test]
    fn changing_owners_later_needs_the_right_to_delete() {
        let old = value!({"metadata": {"name": "p"}});
        assert_eq!(
            run(Operation::Update, &[], owned(false), Some(&old)).unwrap_err(),
            r#"pods "p" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>"#
        );
        assert_eq!(
            run(Operation::Update, &["delete pods/ p"], owned(false), Some(&old)),
            Ok(())
        );
        assert_eq!(
            run(Operation::Update, &[], owned(true), Some(&owned(true))),
            Ok(()),
            "nothing changes"
        );
    }
}
