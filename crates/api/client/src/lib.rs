//! The one way to talk to the API server.
//!
//! A [`Request`] says what is wanted without I/O; a [`Transport`] carries it: in-process (the server hands out its own
//! `Arc<Object>`s), over TLS ([`tls`]), or fault-injecting in simulations. [`Client`] adds the convenient verbs and
//! [`informer`] the shared caches. Identity belongs to the transport: nothing in a request can name it.
//!
//! Knows nothing of the server's insides. Start reading at [`Client`].

pub mod informer;
pub mod request;
pub mod tls;
pub mod transport;

pub use informer::{Change, Informer, InformerConfig, Subscription};
pub use request::{Body, ContentType, Params, Request, Verb};
pub use transport::{ListMeta, ObjectList, Response, Transport, WatchEvent, WatchStream};

use std::sync::Arc;

use cloudeck_machinery::{GroupVersionResource, Object, Status, Value, json};

/// A client of the API server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
}

impl Client {
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// Sends any request but a watch.
    pub async fn send(&self, request: Request) -> Result<Response, Status> {
        self.transport.call(request).await
    }

    /// Opens a watch.
    pub async fn watch(&self, request: Request) -> Result<WatchStream, Status> {
        self.transport.watch(request).await
    }

    /// Reads one object.
    pub async fn get(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Object>, Status> {
        self.send(Request::get(resource, namespace, name))
            .await?
            .into_object()
    }

    /// Lists a namespace, or all with an empty one.
    pub async fn list(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        params: Params,
    ) -> Result<ObjectList, Status> {
        self.send(Request::list(resource, namespace).with_params(params))
            .await?
            .into_list()
    }

    /// Creates an object in the namespace.
    pub async fn create(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        object: &Value,
    ) -> Result<Arc<Object>, Status> {
        let request = Request::create(resource, namespace, Body::json(json::to_vec(object)));
        self.send(request).await?.into_object()
    }

    /// Creates under a subresource: `binding`, `eviction`, `token`.
    pub async fn create_subresource(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Response, Status> {
        let mut request = Request::create(resource, namespace, Body::json(json::to_vec(object)));
        request.name = name.into();
        request.subresource = subresource.into();
        self.send(request).await
    }

    /// Merge patch (RFC 7386); `subresource` may be empty.
    pub async fn merge_patch(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Value,
    ) -> Result<Arc<Object>, Status> {
        let body = Body {
            content_type: ContentType::MergePatch,
            bytes: json::to_vec(patch).into(),
        };
        self.send(Request::patch(resource, namespace, name, subresource, body))
            .await?
            .into_object()
    }

    /// Strategic merge patch; `subresource` may be empty.
    pub async fn strategic_patch(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Value,
    ) -> Result<Arc<Object>, Status> {
        let body = Body {
            content_type: ContentType::StrategicMergePatch,
            bytes: json::to_vec(patch).into(),
        };
        self.send(Request::patch(resource, namespace, name, subresource, body))
            .await?
            .into_object()
    }

    /// Server-side apply with `force`; the object names its kind, and namespace and name stand in its metadata.
    pub async fn apply(
        &self,
        resource: &GroupVersionResource,
        field_manager: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Arc<Object>, Status> {
        let meta = |key| object.str_at(&["metadata", key]).unwrap_or_default();
        let body = Body {
            content_type: ContentType::ApplyPatch,
            bytes: json::to_vec(object).into(),
        };
        let mut request = Request::patch(resource, meta("namespace"), meta("name"), subresource, body);
        request.params.field_manager = field_manager.into();
        request.params.force = Some(true);
        self.send(request).await?.into_object()
    }

    /// Deletes; `options` is a `DeleteOptions` object or null.
    pub async fn delete(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<Response, Status> {
        let body = if options.is_null() {
            Body::empty()
        } else {
            Body::json(json::to_vec(options))
        };
        self.send(Request::delete(resource, namespace, name, body)).await
    }
}
