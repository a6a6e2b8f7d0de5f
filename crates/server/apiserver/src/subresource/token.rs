//! `POST …/serviceaccounts/NAME/token`.

use cloudeck_admission::Operation;
use cloudeck_client::Response;
use cloudeck_machinery::Status;

use super::{body, reply};
use crate::registry::{Call, admit};

pub(super) fn issue(call: &mut Call<'_>) -> Result<Response, Status> {
    let (mut request, ty) = body(call, "authentication.k8s.io/v1", "TokenRequest")?;
    admit::validate(call, Operation::Create, &mut request, None)?;
    let (core, namespace, name) = (call.core, &call.request.namespace, &call.request.name);
    let answer = core
        .tokens
        .request_token(&**core, namespace, name, &request, core.clock.system_time())?;
    Ok(reply(ty, &answer, 201))
}
