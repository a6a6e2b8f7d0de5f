//! Requests as data: what is asked of which object, without a word about who asks or how it travels.

use bytes::Bytes;
use cloudeck_machinery::GroupVersionResource;

/// What is asked, in the words of authorisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// The media type of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContentType {
    Json,
    Yaml,
    Protobuf,
    JsonPatch,
    MergePatch,
    StrategicMergePatch,
    /// Server-side apply, YAML or JSON.
    ApplyPatch,
}

impl ContentType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
            Self::JsonPatch => "application/json-patch+json",
            Self::MergePatch => "application/merge-patch+json",
            Self::StrategicMergePatch => "application/strategic-merge-patch+json",
            Self::ApplyPatch => "application/apply-patch+yaml",
        }
    }
}

/// A request's body.
#[derive(Debug, Clone)]
pub struct Body {
    pub content_type: ContentType,
    pub bytes: Bytes,
}

impl Body {
    pub fn empty() -> Self {
        Self::json(Bytes::new())
    }

    pub fn json(bytes: impl Into<Bytes>) -> Self {
        Self {
            content_type: ContentType::Json,
            bytes: bytes.into(),
        }
    }
}

/// The query parameters; empty strings and `None` mean absent.
#[derive(Debug, Clone, Default)]
pub struct Params {
    pub label_selector: String,
    pub field_selector: String,
    /// Absent, `"0"`, or a revision: upstream tells absent from `"0"`.
    pub resource_version: String,
    pub resource_version_match: String,
    pub limit: Option<i64>,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    /// `["All"]` or empty.
    pub dry_run: Vec<String>,
    pub field_manager: String,
    /// `Strict`, `Warn`, `Ignore` or empty.
    pub field_validation: String,
    pub force: Option<bool>,
    /// DeleteOptions as query parameters.
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: String,
}

/// One request to the API.
#[derive(Debug, Clone)]
pub struct Request {
    pub verb: Verb,
    pub resource: GroupVersionResource,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// `status`, `scale`, `binding`… or empty.
    pub subresource: String,
    pub params: Params,
    pub body: Body,
}

impl Request {
    pub fn new(verb: Verb, resource: &GroupVersionResource, namespace: &str, name: &str) -> Self {
        Self {
            verb,
            resource: resource.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            params: Params::default(),
            body: Body::empty(),
        }
    }

    pub fn get(resource: &GroupVersionResource, namespace: &str, name: &str) -> Self {
        Self::new(Verb::Get, resource, namespace, name)
    }

    pub fn list(resource: &GroupVersionResource, namespace: &str) -> Self {
        Self::new(Verb::List, resource, namespace, "")
    }

    pub fn watch(resource: &GroupVersionResource, namespace: &str) -> Self {
        Self::new(Verb::Watch, resource, namespace, "")
    }

    pub fn create(resource: &GroupVersionResource, namespace: &str, body: Body) -> Self {
        Self {
            body,
            ..Self::new(Verb::Create, resource, namespace, "")
        }
    }

    pub fn update(
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: Body,
    ) -> Self {
        Self {
            body,
            subresource: subresource.to_owned(),
            ..Self::new(Verb::Update, resource, namespace, name)
        }
    }

    pub fn patch(
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: Body,
    ) -> Self {
        Self {
            body,
            subresource: subresource.to_owned(),
            ..Self::new(Verb::Patch, resource, namespace, name)
        }
    }

    pub fn delete(resource: &GroupVersionResource, namespace: &str, name: &str, body: Body) -> Self {
        Self {
            body,
            ..Self::new(Verb::Delete, resource, namespace, name)
        }
    }

    #[must_use]
    pub fn with_params(mut self, params: Params) -> Self {
        self.params = params;
        self
    }
}
