//! One rule of a role: matching a request, covering another rule, and its wire form.

use cloudeck_machinery::{Map, Value};

use crate::attributes::Attributes;
use crate::go_format::quoted_list;

const ALL: &str = "*";

/// `PolicyRule` of `rbac.authorization.k8s.io/v1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups, or `*`.
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<String>,
    /// Object names; none means all.
    pub resource_names: Vec<String>,
    /// Paths; a trailing `*` is a prefix match.
    pub non_resource_urls: Vec<String>,
}

impl PolicyRule {
    /// Reads one item of `rules`.
    pub fn from_value(tree: &Value) -> Self {
        let strings = |name: &str| {
            tree.items_at(&[name])
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect::<Vec<String>>()
        };
        Self {
            verbs: strings("verbs"),
            api_groups: strings("apiGroups"),
            resources: strings("resources"),
            resource_names: strings("resourceNames"),
            non_resource_urls: strings("nonResourceURLs"),
        }
    }

    /// Reads `rules` of a Role or ClusterRole.
    pub fn all_of(role: &Value) -> Vec<Self> {
        role.items_at(&["rules"]).iter().map(Self::from_value).collect()
    }

    /// One item of `rules`.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, items: &[String]| {
            if !items.is_empty() || name == "verbs" {
                let items = items.iter().map(|item| Value::from(item.as_str())).collect();
                map.insert(name, Value::Array(items));
            }
        };
        put("verbs", &self.verbs);
        put("apiGroups", &self.api_groups);
        put("resources", &self.resources);
        put("resourceNames", &self.resource_names);
        put("nonResourceURLs", &self.non_resource_urls);
        Value::Object(map)
    }

    /// Whether the rule allows the request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has_or_all(&self.verbs, attributes.verb) {
            return false;
        }
        if !attributes.is_resource() {
            return self
                .non_resource_urls
                .iter()
                .any(|rule| url_covers(rule, attributes.path));
        }
        has_or_all(&self.api_groups, attributes.group)
            && self
                .resources
                .iter()
                .any(|rule| resource_matches(rule, attributes))
            && (self.resource_names.is_empty() || has(&self.resource_names, attributes.name))
    }

    /// Whether the rule allows whatever the atomic `other` (one verb, group, resource and name) allows.
    fn covers(&self, other: &Self) -> bool {
        let names = self.resource_names.is_empty()
            || (!other.resource_names.is_empty()
                && other.resource_names.iter().all(|n| has(&self.resource_names, n)));
        let verbs = has(&self.verbs, ALL) || other.verbs.iter().all(|verb| has(&self.verbs, verb));
        let groups = has(&self.api_groups, ALL) || other.api_groups.iter().all(|g| has(&self.api_groups, g));
        let resources = has(&self.resources, ALL)
            || other.resources.iter().all(|resource| {
                has(&self.resources, resource)
                    || resource
                        .split_once('/')
                        .is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
            });
        let urls = other.non_resource_urls.iter().all(|url| {
            self.non_resource_urls
                .iter()
                .any(|rule| rule == url || url_prefix_covers(rule, url))
        });
        names && verbs && groups && resources && urls
    }

    /// Splits into rules with one verb, group, resource and name each.
    fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom = Self {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                        continue;
                    }
                    let named = |name| Self {
                        resource_names: one(name),
                        ..atom.clone()
                    };
                    atoms.extend(self.resource_names.iter().map(named));
                }
            }
        }
        for url in &self.non_resource_urls {
            let for_url = |verb| Self {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Self::default()
            };
            atoms.extend(self.verbs.iter().map(for_url));
        }
        atoms
    }

    /// The form in which an escalation is reported.
    pub(super) fn compact_string(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(name, items)| format!("{name}:{}", quoted_list(items)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// The atomic parts of `wanted` that none of `owned` covers.
pub(crate) fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted
        .iter()
        .flat_map(PolicyRule::atoms)
        .filter(|atom| !owned.iter().any(|rule| rule.covers(atom)))
        .collect()
}

/// Joins atomic rules that differ in the verb only.
pub(super) fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut compacted: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut PolicyRule| {
            !rule.resources.is_empty()
                && other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && other.resource_names == rule.resource_names
        };
        match compacted.iter_mut().find(same) {
            Some(other) => other.verbs.extend(rule.verbs),
            None => compacted.push(rule),
        }
    }
    compacted
}

fn has(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == wanted)
}

fn has_or_all(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == ALL || item == wanted)
}

fn resource_matches(rule: &str, attributes: &Attributes<'_>) -> bool {
    if rule == ALL {
        return true;
    }
    if attributes.subresource.is_empty() {
        return rule == attributes.resource;
    }
    rule.split_once('/').is_some_and(|(resource, subresource)| {
        subresource == attributes.subresource && (resource == ALL || resource == attributes.resource)
    })
}

fn url_covers(rule: &str, path: &str) -> bool {
    rule == path || url_prefix_covers(rule, path)
}

fn url_prefix_covers(rule: &str, path: &str) -> bool {
    rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::UserInfo;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str, urls: &str) -> PolicyRule {
        let split = |text: &str| {
            text.split_whitespace()
                .map(|w| w.replace('-', ""))
                .collect::<Vec<_>>()
        };
        PolicyRule {
            verbs: split(verbs),
            api_groups: split(groups),
            resources: split(resources),
            resource_names: split(names),
            non_resource_urls: urls.split_whitespace().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        let user = UserInfo::named("u");
        let pods = Attributes::resource(&user, "get", "", "pods");
        let log = pods.under("log");
        // "-" stands for the empty group.
        for (rule, attributes, expected) in [
            (rule("get", "-", "pods", "", ""), pods, true),
            (rule("get", "-", "pods", "", ""), log, false),
            (rule("get", "-", "pods/log", "", ""), log, true),
            (rule("get", "-", "*/log", "", ""), log, true),
            (rule("get", "-", "*/log", "", ""), pods, false),
            (rule("*", "*", "*", "", ""), log, true),
            (rule("list", "-", "pods", "", ""), pods, false),
            (rule("get", "apps", "pods", "", ""), pods, false),
            (rule("get", "-", "pods", "a b", ""), pods.of("b"), true),
            (rule("get", "-", "pods", "a b", ""), pods.of("c"), false),
            (rule("get", "-", "pods", "a", ""), pods, false),
            (
                rule("get", "", "", "", "/healthz/*"),
                Attributes::path(&user, "get", "/healthz/ping"),
                true,
            ),
            (
                rule("get", "", "", "", "/healthz/*"),
                Attributes::path(&user, "get", "/healthz"),
                false,
            ),
            (
                rule("get", "", "", "", "/healthz"),
                Attributes::path(&user, "get", "/healthz"),
                true,
            ),
            (
                rule("get", "", "", "", "*"),
                Attributes::path(&user, "get", "/x"),
                true,
            ),
            (
                rule("get", "*", "*", "", ""),
                Attributes::path(&user, "get", "/x"),
                false,
            ),
        ] {
            assert_eq!(rule.allows(&attributes), expected, "{rule:?} {attributes:?}");
        }
    }

    #[test]
    fn a_rule_survives_its_wire_form() {
        let rule = rule("get list", "- apps", "pods */scale", "a", "/x");
        assert_eq!(PolicyRule::from_value(&rule.to_value()), rule);
    }

    #[test]
    fn what_is_not_covered_is_reported_in_atoms() {
        let owned = [
            rule("get list", "-", "pods", "", ""),
            rule("*", "apps", "*", "x", ""),
        ];
        let wanted = [
            rule("get watch", "-", "pods", "", ""),
            rule("get", "apps", "deployments", "x y", ""),
        ];
        let missing = uncovered(&owned, &wanted);
        assert_eq!(
            missing,
            [
                rule("watch", "-", "pods", "", ""),
                rule("get", "apps", "deployments", "y", "")
            ]
        );
        assert!(
            uncovered(
                &[rule("get", "-", "*/status", "", "")],
                &[rule("get", "-", "pods/status", "", "")]
            )
            .is_empty()
        );
        assert!(
            uncovered(
                &[rule("get", "", "", "", "/a/*")],
                &[rule("get", "", "", "", "/a/b")]
            )
            .is_empty()
        );
        assert!(
            !uncovered(
                &[rule("get", "-", "pods", "a", "")],
                &[rule("get", "-", "pods", "", "")]
            )
            .is_empty()
        );
    }
}
