//! The objects that every cluster has from its first second, brought up to date at every start.

mod flow_control;
mod objects;

use cloudeck_auth::{LocalIdentity, bootstrap as default_roles};
use cloudeck_client::{Body, Client, Request};
use cloudeck_machinery::{GroupVersionResource, Reason, Status, Value, json};

use crate::server::Server;

/// Creates what is missing and completes what has fallen behind.
pub(crate) async fn ensure(server: &Server) -> Result<(), Status> {
    let client = server.client_as(LocalIdentity::api_server(), "kube-apiserver");
    for name in objects::NAMESPACES {
        let namespaces = GroupVersionResource::new("", "v1", "namespaces");
        ensure_present(&client, &namespaces, "", &objects::namespace(name)).await?;
    }
    for object in default_roles::objects() {
        let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", object.resource);
        reconcile_role(&client, &resource, &object.namespace, &object.name, &object.tree).await?;
    }
    for (resource, namespace, tree) in objects::others(&server.core.config) {
        ensure_present(&client, &resource, namespace, &tree).await?;
    }
    for (resource, tree) in flow_control::objects() {
        ensure_present(&client, &resource, "", &tree).await?;
    }
    refresh_endpoints(server, &client).await
}

async fn ensure_present(
    client: &Client,
    resource: &GroupVersionResource,
    namespace: &str,
    tree: &Value,
) -> Result<(), Status> {
    let name = tree.str_at(&["metadata", "name"]).unwrap_or_default();
    match client.get(resource, namespace, name).await {
        Ok(_) => return Ok(()),
        Err(status) if status.reason == Reason::NotFound => {}
        Err(status) => return Err(status),
    }
    match client.create(resource, namespace, tree).await {
        Err(status) if status.reason != Reason::AlreadyExists => Err(status),
        _ => Ok(()),
    }
}

async fn reconcile_role(
    client: &Client,
    resource: &GroupVersionResource,
    namespace: &str,
    name: &str,
    expected: &Value,
) -> Result<(), Status> {
    let existing = match client.get(resource, namespace, name).await {
        Ok(object) => object.tree(),
        Err(status) if status.reason == Reason::NotFound => {
            return client.create(resource, namespace, expected).await.map(|_| ());
        }
        Err(status) => return Err(status),
    };
    let Some(wanted) = default_roles::reconcile(&existing, expected) else {
        return Ok(());
    };
    if wanted.str_at(&["metadata", "uid"]).is_none() {
        client.delete(resource, namespace, name, &Value::Null).await?;
        return client.create(resource, namespace, &wanted).await.map(|_| ());
    }
    put(client, resource, namespace, name, &wanted).await
}

async fn put(
    client: &Client,
    resource: &GroupVersionResource,
    namespace: &str,
    name: &str,
    tree: &Value,
) -> Result<(), Status> {
    let body = Body::json(json::to_vec(tree));
    client
        .send(Request::update(resource, namespace, name, "", body))
        .await
        .map(|_| ())
}

/// The endpoints of Service `kubernetes` follow the advertised address.
async fn refresh_endpoints(server: &Server, client: &Client) -> Result<(), Status> {
    for (resource, tree) in objects::kubernetes_endpoints(&server.core.config) {
        ensure_present(client, &resource, "default", &tree).await?;
        let current = client.get(&resource, "default", "kubernetes").await?.tree();
        let (part, is) = if resource.resource == "endpoints" {
            ("subsets", current.get("subsets"))
        } else {
            ("endpoints", current.get("endpoints"))
        };
        let same = json_without_nulls(is) == json_without_nulls(tree.get(part))
            && current.get("ports").is_some() == tree.get("ports").is_some();
        if !same || current.get("ports").map(port_numbers) != tree.get("ports").map(port_numbers) {
            let mut wanted = tree.clone();
            wanted.set_at(
                &["metadata", "resourceVersion"],
                current
                    .at(&["metadata", "resourceVersion"])
                    .cloned()
                    .unwrap_or_default(),
            );
            put(client, &resource, "default", "kubernetes", &wanted).await?;
        }
    }
    Ok(())
}

fn port_numbers(ports: &Value) -> Vec<Option<i64>> {
    ports
        .as_array()
        .unwrap_or_default()
        .iter()
        .map(|port| port.int_at(&["port"]))
        .collect()
}

fn json_without_nulls(tree: Option<&Value>) -> String {
    tree.map(ToString::to_string).unwrap_or_default()
}
