//! `Status`: the closed set of reasons with which the API refuses, in upstream's words.
//!
//! Source: `k8s.io/apimachinery/pkg/api/errors` and `metav1.Status`.

use crate::value::{Map, Value};

/// Why a request failed, as upstream's `metav1.StatusReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    RequestEntityTooLarge,
    InternalError,
    ServiceUnavailable,
}

impl Reason {
    /// The word on the wire; empty for [`Reason::Unknown`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    /// The reason named by `word`; [`Reason::Unknown`] for others.
    pub fn from_word(word: &str) -> Self {
        const ALL: [Reason; 18] = [
            Reason::Unauthorized,
            Reason::Forbidden,
            Reason::NotFound,
            Reason::AlreadyExists,
            Reason::Conflict,
            Reason::Gone,
            Reason::Expired,
            Reason::Invalid,
            Reason::ServerTimeout,
            Reason::Timeout,
            Reason::TooManyRequests,
            Reason::BadRequest,
            Reason::MethodNotAllowed,
            Reason::NotAcceptable,
            Reason::UnsupportedMediaType,
            Reason::RequestEntityTooLarge,
            Reason::InternalError,
            Reason::ServiceUnavailable,
        ];
        ALL.into_iter()
            .find(|reason| reason.as_str() == word)
            .unwrap_or(Self::Unknown)
    }

    /// The HTTP status code that goes with the reason.
    pub fn code(self) -> u16 {
        match self {
            Self::Unknown | Self::InternalError | Self::ServerTimeout => 500,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::Invalid => 422,
            Self::Timeout => 504,
            Self::TooManyRequests => 429,
            Self::BadRequest => 400,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::UnsupportedMediaType => 415,
            Self::RequestEntityTooLarge => 413,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// The kind of one cause of an [`Reason::Invalid`], as upstream's `metav1.CauseType` and `field.ErrorType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CauseType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
    UnexpectedServerResponse,
    FieldManagerConflict,
    ResourceVersionTooLarge,
    NamespaceTerminating,
    DisruptionBudget,
}

impl CauseType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::UnexpectedServerResponse => "UnexpectedServerResponse",
            Self::FieldManagerConflict => "FieldManagerConflict",
            Self::ResourceVersionTooLarge => "ResourceVersionTooLarge",
            Self::NamespaceTerminating => "NamespaceTerminating",
            Self::DisruptionBudget => "DisruptionBudget",
        }
    }
}

/// One cause in `details.causes`; `message` without the field, as on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub cause: CauseType,
    pub message: String,
    pub field: String,
}

/// A refusal. Carried as the error type through the whole server and every client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    pub code: u16,
    pub reason: Reason,
    pub message: String,
    /// `details`; boxed because most statuses are small and travel in `Result`s.
    pub details: Option<Box<StatusDetails>>,
    /// `metadata.continue` of an expired list (an inconsistent continuation).
    pub continue_token: Option<String>,
}

/// `metav1.StatusDetails`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusDetails {
    pub name: String,
    pub group: String,
    /// The resource (plural), or the kind for [`Reason::Invalid`], as upstream mixes them.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: i32,
}

impl Status {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    #[must_use]
    pub fn with_details(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        group.clone_into(&mut details.group);
        kind.clone_into(&mut details.kind);
        name.clone_into(&mut details.name);
        self
    }

    #[must_use]
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    #[must_use]
    pub fn with_code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    #[must_use]
    pub fn with_retry_after(mut self, seconds: i32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// `pods "x" not found`.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Self::new(
            Reason::NotFound,
            format!("{} \"{name}\" not found", qualified(group, resource)),
        )
        .with_details(group, resource, name)
    }

    /// `pods "x" already exists`.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Self::new(
            Reason::AlreadyExists,
            format!("{} \"{name}\" already exists", qualified(group, resource)),
        )
        .with_details(group, resource, name)
    }

    /// `Operation cannot be fulfilled on pods "x": …`.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": {why}",
            qualified(group, resource)
        );
        Self::new(Reason::Conflict, message).with_details(group, resource, name)
    }

    /// The conflict of a stale resourceVersion.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// `pods "x" is forbidden: …`; without a name `pods is forbidden: …`.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let subject = qualified(group, resource);
        let message = match (subject.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{subject} is forbidden: {why}"),
            (false, false) => format!("{subject} \"{name}\" is forbidden: {why}"),
        };
        Self::new(Reason::Forbidden, message).with_details(group, resource, name)
    }

    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, why)
    }

    pub fn internal(why: impl std::fmt::Display) -> Self {
        let why = why.to_string();
        let cause = Cause {
            cause: CauseType::Internal,
            message: why.clone(),
            field: String::new(),
        };
        let mut status = Self::new(Reason::InternalError, format!("Internal error occurred: {why}"));
        // Upstream leaves the cause's type empty here; the field stays for the text.
        status.details.get_or_insert_default().causes.push(cause);
        status
    }

    /// `Deployment.apps "x" is invalid: spec.replicas: Invalid value: …` from field errors in field order.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let lines: Vec<String> = causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect();
        let list = match lines.as_slice() {
            [] => String::new(),
            [one] => format!(": {one}"),
            many => format!(": [{}]", many.join(", ")),
        };
        let message = format!("{} \"{name}\" is invalid{list}", qualified(group, kind));
        Self::new(Reason::Invalid, message)
            .with_details(group, kind, name)
            .with_causes(causes)
    }

    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!(
            "{verb} is not supported on resources of kind \"{}\"",
            qualified(group, resource)
        );
        Self::new(Reason::MethodNotAllowed, message).with_details(group, resource, "")
    }

    /// The `Status` object as a tree.
    pub fn to_value(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue", Value::from(token.as_str()));
        }
        let mut tree = crate::value!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "metadata": (metadata), "message": (self.message.as_str()), "code": (i64::from(self.code))
        });
        if self.reason != Reason::Unknown {
            tree.set_at(&["reason"], self.reason.as_str());
        }
        if let Some(details) = &self.details {
            tree.set_at(&["details"], details.to_value());
        }
        tree
    }

    /// Reads a `Status` object; absent members become defaults.
    pub fn from_value(tree: &Value) -> Self {
        let text = |path: &[&str]| tree.str_at(path).unwrap_or_default().to_owned();
        let details = tree.at(&["details"]).map(|details| {
            let word = |name: &str| details.str_at(&[name]).unwrap_or_default().to_owned();
            let causes = details
                .items_at(&["causes"])
                .iter()
                .map(Cause::from_value)
                .collect();
            let retry_after_seconds = details.int_at(&["retryAfterSeconds"]).unwrap_or(0) as i32;
            let (name, group, kind, uid) = (word("name"), word("group"), word("kind"), word("uid"));
            Box::new(StatusDetails {
                name,
                group,
                kind,
                uid,
                causes,
                retry_after_seconds,
            })
        });
        Self {
            code: tree.int_at(&["code"]).unwrap_or(500) as u16,
            reason: Reason::from_word(&text(&["reason"])),
            message: text(&["message"]),
            details,
            continue_token: tree.str_at(&["metadata", "continue"]).map(str::to_owned),
        }
    }
}

impl StatusDetails {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (name, text) in [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ] {
            if !text.is_empty() {
                map.insert(name, Value::from(text.as_str()));
            }
        }
        if !self.causes.is_empty() {
            map.insert(
                "causes",
                Value::Array(self.causes.iter().map(Cause::to_value).collect()),
            );
        }
        if self.retry_after_seconds != 0 {
            map.insert("retryAfterSeconds", Value::from(self.retry_after_seconds));
        }
        Value::Object(map)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        if self.cause != CauseType::Internal {
            map.insert("reason", Value::from(self.cause.as_str()));
        }
        map.insert("message", Value::from(self.message.as_str()));
        if !self.field.is_empty() {
            map.insert("field", Value::from(self.field.as_str()));
        }
        Value::Object(map)
    }

    fn from_value(tree: &Value) -> Self {
        const ALL: [CauseType; 15] = [
            CauseType::NotFound,
            CauseType::Required,
            CauseType::Duplicate,
            CauseType::Invalid,
            CauseType::NotSupported,
            CauseType::Forbidden,
            CauseType::TooLong,
            CauseType::TooMany,
            CauseType::Internal,
            CauseType::TypeInvalid,
            CauseType::UnexpectedServerResponse,
            CauseType::FieldManagerConflict,
            CauseType::ResourceVersionTooLarge,
            CauseType::NamespaceTerminating,
            CauseType::DisruptionBudget,
        ];
        let word = tree.str_at(&["reason"]).unwrap_or_default();
        Self {
            cause: ALL
                .into_iter()
                .find(|cause| cause.as_str() == word)
                .unwrap_or(CauseType::Internal),
            message: tree.str_at(&["message"]).unwrap_or_default().to_owned(),
            field: tree.str_at(&["field"]).unwrap_or_default().to_owned(),
        }
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() || resource.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_upstream() {
        let invalid = Status::invalid(
            "apps",
            "Deployment",
            "d",
            vec![Cause {
                cause: CauseType::Required,
                message: "Required value".into(),
                field: "spec.selector".into(),
            }],
        );
        assert_eq!(
            invalid.message,
            r#"Deployment.apps "d" is invalid: spec.selector: Required value"#
        );
        assert_eq!(
            Status::not_found("", "pods", "p").message,
            r#"pods "p" not found"#
        );
        assert_eq!(invalid.code, 422);
    }

    #[test]
    fn a_status_survives_its_wire_form() {
        let status = Status::already_exists("apps", "deployments", "d").with_retry_after(3);
        assert_eq!(Status::from_value(&status.to_value()), status);
    }
}
