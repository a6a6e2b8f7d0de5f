//! The objects that every cluster has from its first second.

use cloudeck_auth::LocalIdentity;
use cloudeck_machinery::{GroupVersionResource, Reason, Status, value};

use crate::server::Server;

/// Creates what is missing.
pub(crate) async fn ensure(server: &Server) -> Result<(), Status> {
    let client = server.client(LocalIdentity::api_server());
    let namespaces = GroupVersionResource::new("", "v1", "namespaces");
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        let object = value!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": (name)}});
        match client.create(&namespaces, "", &object).await {
            Err(status) if status.reason != Reason::AlreadyExists => return Err(status),
            _ => {}
        }
    }
    Ok(())
}
