//! Nobody gives away rights that he lacks: the check on writes to roles and bindings.

use cloudeck_auth::rbac::GrantCheck;
use cloudeck_machinery::{Status, Value};

use super::Call;

/// Refuses a role or binding that gives away what its writer lacks.
pub(crate) fn check(call: &Call<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if call.view.group() != "rbac.authorization.k8s.io" {
        return Ok(());
    }
    let check = GrantCheck {
        user: call.user,
        resource: call.view.plural(),
        namespace: &call.request.namespace,
        name: &call.request.name,
        old,
        new,
    };
    call.core.authorizer.check_grant(&check).map_err(|error| *error.0)
}
