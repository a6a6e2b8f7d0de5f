//! What a plug-in sees of a write, and how it answers.

use cloudeck_auth::{Authorizer, ObjectReader, UserInfo};
use cloudeck_machinery::{Status, Value};

/// A write, or the opening of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object, or a subresource that is posted to.
    Create,
    /// PUT, PATCH and apply alike.
    Update,
    /// One object of a deletion.
    Delete,
    /// `exec`, `attach`, `portforward`, `proxy`.
    Connect,
}

impl Operation {
    /// Upstream's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A write that asks for admission. Empty strings mean absent.
#[derive(Clone)]
pub struct AdmissionRequest<'a> {
    /// What is done.
    pub operation: Operation,
    /// The resource's group.
    pub group: &'a str,
    /// The resource's version.
    pub version: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// `status`, `eviction`, …
    pub subresource: &'a str,
    /// The namespace of the request; for a Namespace its own name.
    pub namespace: &'a str,
    /// The name in the request's path; for a create the object's name as far as it is known.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a UserInfo,
    /// The object to be stored, or the posted body of a subresource; null for a deletion.
    pub object: Value,
    /// The stored object, on update and deletion.
    pub old: Option<&'a Value>,
}

impl AdmissionRequest<'_> {
    /// Whether it is for this resource itself, not a subresource.
    pub(crate) fn is_for(&self, group: &str, resource: &str) -> bool {
        self.is_under(group, resource, "")
    }

    /// Whether it is for this subresource.
    pub(crate) fn is_under(&self, group: &str, resource: &str, subresource: &str) -> bool {
        self.group == group && self.resource == resource && self.subresource == subresource
    }

    /// Upstream's 403 for a reason of an admission plug-in.
    pub(crate) fn forbid(&self, why: impl AsRef<str>) -> Refusal {
        let meta = |field| {
            self.object
                .str_at(&["metadata", field])
                .filter(|text| !text.is_empty())
        };
        let name = if self.name.is_empty() {
            meta("name").or_else(|| meta("generateName")).unwrap_or("Unknown")
        } else {
            self.name
        };
        Refusal::new(Status::forbidden(self.group, self.resource, name, why.as_ref()))
    }
}

/// What plug-ins may look at.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Other objects.
    pub reader: &'a dyn ObjectReader,
    /// Rights, for plug-ins that ask for more than the request's own verb.
    pub authorizer: &'a dyn Authorizer,
    /// Five random letters, as for `generateName`.
    pub random_suffix: &'a dyn Fn() -> String,
}

/// Why a write is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What the client is told.
    pub status: Box<Status>,
    /// An object with which the answer would be another, and which is expected soon: the default service account of a
    /// new namespace. The server may wait a moment for it and ask again.
    pub awaits: Option<Awaited>,
}

/// An object that does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The plural, in the core group.
    pub resource: &'static str,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Refusal {
    pub(crate) fn new(status: Status) -> Self {
        Self {
            status: Box::new(status),
            awaits: None,
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        *refusal.status
    }
}

/// What is said about a write that is let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// `Warning` headers.
    pub warnings: Vec<String>,
    /// Annotations of the audit event: key and value.
    pub audit: Vec<(String, String)>,
}
