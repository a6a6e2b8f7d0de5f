//! What is asked of an authoriser, what it answers, and how a refusal reads.

use cloudeck_machinery::{FieldSelector, Status};

use crate::go_format::quoted;
use crate::user::UserInfo;

/// One question: may `user` do this? Empty strings mean absent.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// `get`, `list`, `watch`, `create`, …; the lower-case HTTP method for a path.
    pub verb: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The API version.
    pub version: &'a str,
    /// The plural. Empty exactly when [`Attributes::path`] is asked for.
    pub resource: &'a str,
    /// `status`, `scale`, …
    pub subresource: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// The path of a request that is not for a resource.
    pub path: &'a str,
    /// The field selector of a list or watch, as sent.
    pub field_selector: &'a str,
}

impl<'a> Attributes<'a> {
    /// A question about a resource.
    pub fn resource(user: &'a UserInfo, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self {
            user,
            verb,
            group,
            version: "*",
            resource,
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            field_selector: "",
        }
    }

    /// A question about a path that is not a resource.
    pub fn path(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Self {
        Self {
            path,
            version: "",
            ..Self::resource(user, verb, "", "")
        }
    }

    /// In this namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: &'a str) -> Self {
        Self { namespace, ..self }
    }

    /// About this object.
    #[must_use]
    pub fn of(self, name: &'a str) -> Self {
        Self { name, ..self }
    }

    /// About this subresource.
    #[must_use]
    pub fn under(self, subresource: &'a str) -> Self {
        Self { subresource, ..self }
    }

    /// Whether a resource is asked for, not a path.
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty() || self.path.is_empty()
    }

    /// Whether the field selector demands `field=value`.
    pub(crate) fn selects(&self, field: &str, value: &str) -> bool {
        let selector = FieldSelector::parse(self.field_selector);
        selector.is_ok_and(|selector| selector.required_value(field) == Some(value))
    }
}

/// Whether a request is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed: nobody else is asked.
    Allow,
    /// Refused: nobody else is asked.
    Deny,
    /// Not my business: the next authoriser decides; refused if there is none.
    NoOpinion,
}

/// A verdict and why; the reason may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, for the audit log, access reviews and the refusal's message.
    pub reason: String,
}

impl Decision {
    /// Allowed.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Allow,
            reason: reason.into(),
        }
    }

    /// Not decided.
    pub fn no_opinion(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::NoOpinion,
            reason: reason.into(),
        }
    }

    /// Whether the request may go on.
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// Decides. Implementations: RBAC, the Node authoriser, and their chain.
pub trait Authorizer: Send + Sync {
    /// Answers one question, from memory, in microseconds.
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// The 403 that upstream sends.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = sanitize(&forbidden_message(attributes));
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    Status::forbidden(attributes.group, attributes.resource, attributes.name, &why)
}

fn forbidden_message(attributes: &Attributes<'_>) -> String {
    let (user, verb) = (quoted(&attributes.user.name), attributes.verb);
    if !attributes.is_resource() {
        return format!("User {user} cannot {verb} path {}", quoted(attributes.path));
    }
    let resource = match attributes.subresource {
        "" => quoted(attributes.resource),
        subresource => quoted(&format!("{}/{subresource}", attributes.resource)),
    };
    let group = quoted(attributes.group);
    match attributes.namespace {
        "" => {
            format!("User {user} cannot {verb} resource {resource} in API group {group} at the cluster scope")
        }
        namespace => format!(
            "User {user} cannot {verb} resource {resource} in API group {group} in the namespace {}",
            quoted(namespace)
        ),
    }
}

/// An error must not look like HTML.
fn sanitize(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(attributes: Attributes<'_>, reason: &str, expected: &str) {
        let status = forbidden(&attributes, reason);
        assert_eq!((status.code, status.message.as_str()), (403, expected));
    }

    #[test]
    fn refusals_read_as_upstream() {
        let user = UserInfo::named("x");
        let list = Attributes::resource(&user, "list", "", "pods");
        check(
            list.in_namespace("y"),
            "",
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y""#,
        );
        check(
            Attributes::resource(&user, "patch", "apps", "deployments")
                .of("d")
                .under("scale"),
            "why",
            r#"deployments.apps "d" is forbidden: User "x" cannot patch resource "deployments/scale" in API group "apps" at the cluster scope: why"#,
        );
        check(
            Attributes::path(&user, "get", "/metrics"),
            "",
            r#"forbidden: User "x" cannot get path "/metrics""#,
        );
    }

    #[test]
    fn a_name_that_looks_like_html_is_defused() {
        let user = UserInfo::named("<b>&");
        check(
            Attributes::path(&user, "get", "/"),
            "",
            r#"forbidden: User "&lt;b&gt;&amp;" cannot get path "/""#,
        );
    }

    #[test]
    fn a_field_selector_is_matched_by_term() {
        let user = UserInfo::named("x");
        let mut attributes = Attributes::resource(&user, "list", "", "pods");
        attributes.field_selector = "status.phase!=Failed,spec.nodeName==n1";
        assert!(attributes.selects("spec.nodeName", "n1"));
        assert!(!attributes.selects("spec.nodeName", "n"));
        assert!(!attributes.selects("status.phase", "Failed"));
    }
}
