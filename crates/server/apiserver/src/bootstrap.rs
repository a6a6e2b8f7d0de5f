//! The objects that every cluster has from its first second, brought up to date at every start.

mod api_services;
mod flow_control;
mod objects;

use cloudeck_auth::LocalIdentity;
use cloudeck_auth::bootstrap::{self as default_roles, BootstrapObject};
use cloudeck_client::{Body, Client, Request};
use cloudeck_machinery::{GroupVersionResource, Reason, Status, Value, json};
use futures_util::future::try_join_all;

use crate::server::Server;

/// Creates what is missing and completes what has fallen behind. What does not depend on each other is written
/// together, so that a first start waits for the disk a few times, not two hundred.
pub(crate) async fn ensure(server: &Server) -> Result<(), Status> {
    let client = &server.client_as(LocalIdentity::api_server(), "kube-apiserver");
    let namespaces = &GroupVersionResource::new("", "v1", "namespaces");
    let made = objects::NAMESPACES
        .map(|name| async move { ensure_present(client, namespaces, "", &objects::namespace(name)).await });
    try_join_all(made).await?;
    let (bindings, roles): (Vec<_>, Vec<_>) = default_roles::objects()
        .into_iter()
        .partition(|object| object.resource.ends_with("bindings"));
    reconcile_roles(client, &roles).await?;
    let others = objects::others(&server.core.config).into_iter();
    let wide = flow_control::objects().into_iter().chain(api_services::objects());
    let others = others.chain(wide.map(|(resource, tree)| (resource, "", tree)));
    let others = others.map(|(resource, namespace, tree)| async move {
        ensure_present(client, &resource, namespace, &tree).await
    });
    let (bound, made) = tokio::join!(reconcile_roles(client, &bindings), try_join_all(others));
    bound?;
    made?;
    mark_range_ready(server, client).await?;
    refresh_endpoints(server, client).await
}

/// Makes Service `kubernetes` and its endpoints anew whenever somebody deletes them: pods reach the API through them.
pub(crate) async fn keep_service(server: Server) {
    let client = &server.client_as(LocalIdentity::api_server(), "kube-apiserver");
    let kinds = [
        ("", "services"),
        ("", "endpoints"),
        ("discovery.k8s.io", "endpointslices"),
    ]
    .map(|(group, plural)| server.core.stored(group, plural));
    let mut changes = kinds.map(|kind| kind.cache.subscribe());
    loop {
        if kinds
            .iter()
            .any(|kind| kind.cache.get("default", "kubernetes").is_none())
            && let Err(status) = restore_service(&server, client).await
        {
            tracing::warn!(error = %status, "restoring service kubernetes failed");
        }
        let changed = changes.iter_mut().map(|change| Box::pin(change.changed()));
        if futures_util::future::select_all(changed).await.0.is_err() {
            return;
        }
    }
}

async fn restore_service(server: &Server, client: &Client) -> Result<(), Status> {
    for (resource, namespace, tree) in objects::others(&server.core.config) {
        if resource.resource == "services" {
            ensure_present(client, &resource, namespace, &tree).await?;
        }
    }
    refresh_endpoints(server, client).await
}

/// The default service range is ready as soon as there is a server that hands it out.
async fn mark_range_ready(server: &Server, client: &Client) -> Result<(), Status> {
    let ranges = GroupVersionResource::new("networking.k8s.io", "v1", "servicecidrs");
    let range = client.get(&ranges, "", "kubernetes").await?.tree();
    if !range.items_at(&["status", "conditions"]).is_empty() {
        return Ok(());
    }
    let status = objects::ready_range(&server.core.clock.timestamp());
    client
        .merge_patch(&ranges, "", "kubernetes", "status", &status)
        .await
        .map(|_| ())
}

async fn reconcile_roles(client: &Client, objects: &[BootstrapObject]) -> Result<(), Status> {
    let reconciled = objects.iter().map(|object| async move {
        let resource = GroupVersionResource::new("rbac.authorization.k8s.io", "v1", object.resource);
        reconcile_role(client, &resource, &object.namespace, &object.name, &object.tree).await
    });
    try_join_all(reconciled).await.map(|_| ())
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
    for (resource, wanted) in objects::kubernetes_endpoints(&server.core.config) {
        ensure_present(client, &resource, "default", &wanted).await?;
        let current = client.get(&resource, "default", "kubernetes").await?.tree();
        // The parts that say where: a merge patch of them changes nothing when they are right.
        let mut patch = Value::object();
        for part in ["subsets", "endpoints", "ports"] {
            if let Some(value) = wanted
                .get(part)
                .filter(|value| addresses(value) != addresses_of(&current, part))
            {
                patch.set_at(&[part], value.clone());
            }
        }
        if patch != Value::object() {
            client
                .merge_patch(&resource, "default", "kubernetes", "", &patch)
                .await?;
        }
    }
    Ok(())
}

fn addresses_of(current: &Value, part: &str) -> Vec<String> {
    current.get(part).map(addresses).unwrap_or_default()
}

/// Every address and port number in a part of an endpoints object, in order.
fn addresses(part: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(part, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(map) => {
            for (key, member) in map.iter() {
                match (key.as_str(), member) {
                    ("ip", Value::String(text)) => found.push(text.to_string()),
                    ("port", Value::Int(port)) => found.push(port.to_string()),
                    ("addresses", Value::Array(items)) => {
                        found.extend(items.iter().filter_map(Value::as_str).map(str::to_owned));
                        collect(member, found);
                    }
                    ("ports", _) => collect(member, found),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
