//! The reviews: questions about access and tokens that are asked through the API.
//!
//! Each function takes the posted object and answers it with its status filled in. Objects are not stored.

use std::time::SystemTime;

use cloudeck_machinery::{Cause, CauseType, Map, Status, Value};

use crate::attributes::{Attributes, Authorizer, Verdict};
use crate::chain::ClusterAuthorizer;
use crate::go_format::aggregate;
use crate::rbac::PolicyRule;
use crate::reader::ObjectReader;
use crate::token::TokenIssuer;
use crate::user::UserInfo;

const AUTHORIZATION: &str = "authorization.k8s.io";
const EXACTLY_ONE: &str = "exactly one of nonResourceAttributes or resourceAttributes must be specified";

/// Which of the three reviews about somebody else's, or one's own, access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessReview<'a> {
    /// `SelfSubjectAccessReview`: about the one who asks.
    OwnAccess(&'a UserInfo),
    /// `SubjectAccessReview`: about the user in the spec.
    Subject,
    /// `LocalSubjectAccessReview`, posted to this namespace.
    LocalSubject(&'a str),
}

/// Answers an access review.
pub fn review_access(
    review: AccessReview<'_>,
    body: &Value,
    authorizer: &dyn Authorizer,
) -> Result<Value, Status> {
    let (kind, causes) = validate_access(review, body);
    if !causes.is_empty() {
        return Err(Status::invalid(AUTHORIZATION, kind, "", causes));
    }
    if let AccessReview::LocalSubject(namespace) = review
        && body.str_at(&["spec", "resourceAttributes", "namespace"]) != Some(namespace)
    {
        let found = body
            .str_at(&["spec", "resourceAttributes", "namespace"])
            .unwrap_or_default();
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}, got {found}"
        )));
    }
    let subject = match review {
        AccessReview::OwnAccess(user) => user.clone(),
        AccessReview::Subject | AccessReview::LocalSubject(_) => spec_user(body),
    };
    let field_selector = field_selector(body);
    let decision = authorizer.authorize(&asked_attributes(&subject, body, &field_selector));
    let mut status = Map::new();
    status.insert("allowed", decision.is_allowed().into());
    if decision.verdict == Verdict::Deny {
        status.insert("denied", true.into());
    }
    if !decision.reason.is_empty() {
        status.insert("reason", decision.reason.into());
    }
    Ok(answered(body, AUTHORIZATION, kind, status.into()))
}

fn asked_attributes<'a>(user: &'a UserInfo, body: &'a Value, field_selector: &'a str) -> Attributes<'a> {
    let text = |part, field| body.str_at(&["spec", part, field]).unwrap_or_default();
    if is_set(body, "resourceAttributes") {
        let text = |field| text("resourceAttributes", field);
        return Attributes {
            user,
            verb: text("verb"),
            group: text("group"),
            version: Some(text("version"))
                .filter(|version| !version.is_empty())
                .unwrap_or("*"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            path: "",
            field_selector,
        };
    }
    Attributes::path(
        user,
        text("nonResourceAttributes", "verb"),
        text("nonResourceAttributes", "path"),
    )
}

/// The selector as one text, whichever way it was given. Requirements that the text cannot hold are left out, which
/// only widens what is asked for.
fn field_selector(body: &Value) -> String {
    let Some(selector) = body.at(&["spec", "resourceAttributes", "fieldSelector"]) else {
        return String::new();
    };
    if let Some(raw) = selector.str_at(&["rawSelector"]).filter(|raw| !raw.is_empty()) {
        return raw.to_owned();
    }
    let terms = selector
        .items_at(&["requirements"])
        .iter()
        .filter_map(|requirement| {
            let sign = match requirement.str_at(&["operator"])? {
                "In" => "=",
                "NotIn" => "!=",
                _ => return None,
            };
            match requirement.items_at(&["values"]) {
                [value] => Some(format!(
                    "{}{sign}{}",
                    requirement.str_at(&["key"])?,
                    value.as_str()?
                )),
                _ => None,
            }
        });
    terms.collect::<Vec<_>>().join(",")
}

fn spec_user(body: &Value) -> UserInfo {
    let strings = |value: &Value| {
        value
            .as_array()
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let text = |field| body.str_at(&["spec", field]).unwrap_or_default().to_owned();
    let extra = body.at(&["spec", "extra"]).and_then(Value::as_object);
    UserInfo {
        name: text("user"),
        uid: text("uid"),
        groups: body.at(&["spec", "groups"]).map(strings).unwrap_or_default(),
        extra: extra
            .into_iter()
            .flat_map(Map::iter)
            .map(|(k, v)| (k.to_string(), strings(v)))
            .collect(),
    }
}

fn validate_access(review: AccessReview<'_>, body: &Value) -> (&'static str, Vec<Cause>) {
    let mut causes = Vec::new();
    let mut refuse = |field: &str, value: &str, why: &str| {
        let message = format!("Invalid value: {value}: {why}");
        causes.push(Cause {
            cause: CauseType::Invalid,
            message,
            field: field.to_owned(),
        });
    };
    if is_set(body, "resourceAttributes") == is_set(body, "nonResourceAttributes") {
        let value = body
            .at(&["spec", "nonResourceAttributes"])
            .map_or_else(|| "null".to_owned(), Value::to_string);
        refuse("spec", &value, EXACTLY_ONE);
    }
    let kind = match review {
        AccessReview::OwnAccess(_) => return ("SelfSubjectAccessReview", causes),
        AccessReview::Subject => "SubjectAccessReview",
        AccessReview::LocalSubject(_) => "LocalSubjectAccessReview",
    };
    let nobody = body.str_at(&["spec", "user"]).unwrap_or_default().is_empty()
        && body.items_at(&["spec", "groups"]).is_empty();
    if nobody {
        refuse(
            "spec.user",
            "\"\"",
            "at least one of user or group must be specified",
        );
    }
    if kind == "LocalSubjectAccessReview" && is_set(body, "nonResourceAttributes") {
        let value = body
            .at(&["spec", "nonResourceAttributes"])
            .map(Value::to_string)
            .unwrap_or_default();
        refuse(
            "spec.nonResourceAttributes",
            &value,
            "disallowed on this kind of request",
        );
    }
    (kind, causes)
}

fn is_set(body: &Value, part: &str) -> bool {
    body.at(&["spec", part]).is_some_and(|value| !value.is_null())
}

/// Answers a `SelfSubjectRulesReview`.
pub fn review_rules(user: &UserInfo, body: &Value, authorizer: &ClusterAuthorizer) -> Result<Value, Status> {
    let namespace = body.str_at(&["spec", "namespace"]).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, errors, incomplete) = authorizer.rules_for(user, namespace);
    let (resources, paths): (Vec<&PolicyRule>, Vec<&PolicyRule>) =
        rules.iter().partition(|rule| rule.non_resource_urls.is_empty());
    let list = |rules: Vec<&PolicyRule>| Value::Array(rules.into_iter().map(PolicyRule::to_value).collect());
    let mut status = Map::new();
    status.insert("resourceRules", list(resources));
    status.insert("nonResourceRules", list(paths));
    status.insert("incomplete", incomplete.into());
    if !errors.is_empty() {
        status.insert("evaluationError", aggregate(&errors).into());
    }
    Ok(answered(
        &Value::object(),
        AUTHORIZATION,
        "SelfSubjectRulesReview",
        status.into(),
    ))
}

/// Answers a `SelfSubjectReview`: who am I?
pub fn review_self(user: &UserInfo, now: SystemTime) -> Value {
    let mut status = Map::new();
    status.insert("userInfo", user.to_value());
    let mut answer = answered(
        &Value::object(),
        "authentication.k8s.io",
        "SelfSubjectReview",
        status.into(),
    );
    if let Ok(now) = jiff::Timestamp::try_from(now) {
        answer.set_at(
            &["metadata", "creationTimestamp"],
            now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
    }
    answer
}

/// Answers a `TokenReview`.
pub fn review_token(
    body: &Value,
    tokens: &TokenIssuer,
    reader: &dyn ObjectReader,
    now: SystemTime,
) -> Result<Value, Status> {
    let token = body.str_at(&["spec", "token"]).unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked = body
        .items_at(&["spec", "audiences"])
        .iter()
        .filter_map(Value::as_str);
    let asked: Vec<String> = asked.map(str::to_owned).collect();
    let audiences = if asked.is_empty() {
        tokens.audiences()
    } else {
        &asked
    };
    let mut status = Map::new();
    match tokens.verify(token, audiences, reader, now) {
        Ok(verified) => {
            let audiences = verified
                .audiences
                .iter()
                .map(|audience| audience.as_str().into())
                .collect();
            status.insert("authenticated", true.into());
            status.insert("user", verified.user.to_value());
            status.insert("audiences", Value::Array(audiences));
        }
        Err(refusal) => {
            // Upstream puts the reasons of all its authenticators into one list of one.
            status.insert("user", Value::object());
            let text = match refusal {
                crate::TokenRefusal::Foreign => refusal.to_string(),
                other => format!("[invalid bearer token, {other}]"),
            };
            status.insert("error", text.into());
        }
    }
    Ok(answered(
        body,
        "authentication.k8s.io",
        "TokenReview",
        status.into(),
    ))
}

fn answered(body: &Value, group: &str, kind: &str, status: Value) -> Value {
    let mut answer = body.clone();
    answer.set_at(&["kind"], kind);
    answer.set_at(&["apiVersion"], format!("{group}/v1"));
    if answer.get("metadata").is_none_or(Value::is_null) {
        answer.set_at(&["metadata"], Value::object());
    }
    if answer.get("spec").is_none_or(Value::is_null) {
        answer.set_at(&["spec"], Value::object());
    }
    answer.set_at(&["status"], status);
    answer
}

#[cfg(test)]
mod tests;
