//! Server-side apply.

use cloudeck_client::Response;
use cloudeck_machinery::{Reason, Status};

use super::Call;

pub(crate) async fn apply(call: &mut Call<'_>) -> Result<Response, Status> {
    let _ = call;
    Err(Status::new(
        Reason::UnsupportedMediaType,
        "server-side apply is not served yet",
    ))
}
