//! `Impersonate-*` headers: acting as somebody else, if one may.

use http::HeaderMap;

use cloudeck_machinery::Status;

use crate::attributes::{Attributes, Authorizer, forbidden};
use crate::authenticate::{extra_headers, header_texts};
use crate::user::{ANONYMOUS, UserInfo, groups, service_account_groups, split_service_account};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that `requester` asks to act as; `None` without impersonation headers.
///
/// Each part of the new identity needs the verb `impersonate`. Upstream's finer-grained verbs
/// (`impersonate:user-info` and the like) are not asked for.
///
/// # Errors
/// The `Status` with which the request is refused.
pub fn impersonate(
    requester: &UserInfo,
    headers: &HeaderMap,
    authorizer: &dyn Authorizer,
) -> Result<Option<UserInfo>, Status> {
    let texts = |name| header_texts(headers, name).map_err(|error| Status::bad_request(error.to_string()));
    let first = |name| Ok::<_, Status>(texts(name)?.into_iter().next().unwrap_or_default());
    let (name, uid) = (first(USER)?, first(UID)?);
    let wanted_groups = texts(GROUP)?;
    let extra = extra_headers(headers, EXTRA).map_err(|error| Status::bad_request(error.to_string()))?;
    if name.is_empty() {
        if wanted_groups.is_empty() && extra.is_empty() && uid.is_empty() {
            return Ok(None);
        }
        let parts = describe_parts(&wanted_groups, &extra, &uid);
        return Err(Status::bad_request(format!(
            "requested [{parts}] without impersonating a user"
        )));
    }
    let ask = |group, resource, namespace, name, subresource| {
        let question = Attributes::resource(requester, "impersonate", group, resource);
        let question = question.in_namespace(namespace).of(name).under(subresource);
        let decision = authorizer.authorize(&question);
        if decision.is_allowed() {
            Ok(())
        } else {
            Err(forbidden(&question, &decision.reason))
        }
    };
    let mut user = UserInfo::named(&name);
    match split_service_account(&name) {
        Some((namespace, account)) => {
            ask("", "serviceaccounts", namespace, account, "")?;
            if wanted_groups.is_empty() {
                user.groups.extend(service_account_groups(namespace));
            }
        }
        None => ask("", "users", "", &name, "")?,
    }
    for group in &wanted_groups {
        ask("", "groups", "", group, "")?;
        user.groups.push(group.clone());
    }
    for (key, values) in &extra {
        for value in values {
            ask(AUTHENTICATION, "userextras", "", value, key)?;
        }
    }
    if !uid.is_empty() {
        ask(AUTHENTICATION, "uids", "", &uid, "")?;
    }
    user.uid = uid;
    user.extra = extra;
    if name == ANONYMOUS && !user.is_in(groups::UNAUTHENTICATED) {
        user.groups.push(groups::UNAUTHENTICATED.to_owned());
    }
    Ok(Some(user.authenticated()))
}

/// As Go prints the object references that upstream makes of the headers.
fn describe_parts(
    groups: &[String],
    extra: &std::collections::BTreeMap<String, Vec<String>>,
    uid: &str,
) -> String {
    let mut parts: Vec<String> = groups
        .iter()
        .map(|group| format!("{{Group  {group}    }}"))
        .collect();
    for (key, values) in extra {
        parts.extend(
            values
                .iter()
                .map(|value| format!("{{UserExtra  {value}  {AUTHENTICATION}/v1  {key}}}")),
        );
    }
    if !uid.is_empty() {
        parts.push(format!("{{UID  {uid}  {AUTHENTICATION}/v1  }}"));
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::RbacIndex;
    use cloudeck_machinery::{Value, value};

    struct Rbac(RbacIndex);

    impl Authorizer for Rbac {
        fn authorize(&self, attributes: &Attributes<'_>) -> crate::Decision {
            self.0.authorize(attributes)
        }
    }

    fn run(rules: Value, headers: &[(&'static str, &str)]) -> Result<Option<UserInfo>, String> {
        let mut index = RbacIndex::default();
        index.set_cluster_role("r", Some(&value!({"rules": (rules)})));
        let binding = value!({
            "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}]
        });
        index.set_cluster_role_binding("r", Some(&binding));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        impersonate(&UserInfo::named("jane"), &map, &Rbac(index)).map_err(|status| status.message)
    }

    fn everything() -> Value {
        value!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["impersonate"]}])
    }

    fn groups_of(headers: &[(&'static str, &str)]) -> Vec<String> {
        run(everything(), headers).unwrap().unwrap().groups
    }

    #[test]
    fn without_headers_nobody_is_impersonated() {
        assert_eq!(run(value!([]), &[]), Ok(None));
    }

    #[test]
    fn groups_follow_from_the_kind_of_user() {
        assert_eq!(groups_of(&[(USER, "joe")]), ["system:authenticated"]);
        assert_eq!(
            groups_of(&[(USER, "joe"), (GROUP, "a"), (GROUP, "b")]),
            ["a", "b", "system:authenticated"]
        );
        assert_eq!(
            groups_of(&[(USER, "system:serviceaccount:ns:bot")]),
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        assert_eq!(
            groups_of(&[(USER, "system:anonymous")]),
            ["system:unauthenticated"]
        );
    }

    #[test]
    fn extra_and_uid_are_taken_over() {
        let user = run(
            everything(),
            &[(USER, "joe"), (UID, "7"), ("impersonate-extra-a%2fb", "x")],
        )
        .unwrap()
        .unwrap();
        assert_eq!(
            (user.uid.as_str(), &user.extra["a/b"]),
            ("7", &vec!["x".to_owned()])
        );
    }

    #[test]
    fn every_part_needs_a_right() {
        let rules = || value!([{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["joe"]}]);
        assert!(run(rules(), &[(USER, "joe")]).is_ok());
        assert_eq!(
            run(rules(), &[(USER, "max")]).unwrap_err(),
            r#"users "max" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope"#
        );
        assert_eq!(
            run(rules(), &[(USER, "joe"), (GROUP, "system:masters")]).unwrap_err(),
            r#"groups "system:masters" is forbidden: User "jane" cannot impersonate resource "groups" in API group "" at the cluster scope"#
        );
        assert_eq!(
            run(rules(), &[(USER, "joe"), ("impersonate-extra-k", "v")]).unwrap_err(),
            r#"userextras.authentication.k8s.io "v" is forbidden: User "jane" cannot impersonate resource "userextras/k" in API group "authentication.k8s.io" at the cluster scope"#
        );
    }

    #[test]
    fn a_name_that_is_not_text_does_not_fall_back_to_the_requester() {
        let mut headers = HeaderMap::new();
        headers.insert(USER, http::HeaderValue::from_bytes(b"\xff").unwrap());
        let refused =
            impersonate(&UserInfo::named("jane"), &headers, &Rbac(RbacIndex::default())).unwrap_err();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (400, "the header impersonate-user is not text")
        );
    }

    #[test]
    fn parts_without_a_user_are_a_bad_request() {
        assert_eq!(
            run(everything(), &[(GROUP, "g")]).unwrap_err(),
            "requested [{Group  g    }] without impersonating a user"
        );
    }
}
