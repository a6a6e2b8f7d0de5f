//! What kube-apiserver 1.37 serves by default: group versions, resources, subresources.

use std::sync::OnceLock;

use crate::types::TypeRef;

/// A resource of one group version. A view of its [`StorageKind`].
#[derive(Debug, PartialEq, Eq)]
pub struct ResourceInfo {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub namespaced: bool,
    pub verbs: Vec<&'static str>,
    pub short_names: Vec<&'static str>,
    pub categories: Vec<&'static str>,
    pub subresources: Vec<Subresource>,
    /// The type of the kind.
    pub root: Option<TypeRef>,
    pub storage: StorageKind,
    /// Upstream's hash of the stored version; empty for kinds that are not stored.
    pub storage_version_hash: &'static str,
    pub has_status: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Subresource {
    pub name: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub verbs: Vec<&'static str>,
}

/// Where objects are kept, whichever group version they are seen through, and in which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StorageKind {
    pub group: &'static str,
    pub plural: &'static str,
    pub version: &'static str,
}

/// A served group version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupVersionInfo {
    pub group: &'static str,
    pub version: &'static str,
    /// The prefix of its types' names.
    package: &'static str,
}

struct Tables {
    /// In upstream's order of priority: core first, the preferred version of a group before its others.
    versions: Vec<GroupVersionInfo>,
    resources: Vec<ResourceInfo>,
}

/// Every served resource, by group version in upstream's order.
pub fn resources() -> impl Iterator<Item = &'static ResourceInfo> {
    tables().resources.iter()
}

/// Every served group version: core first, then upstream's order; the preferred version of a group comes first.
pub fn group_versions() -> impl Iterator<Item = GroupVersionInfo> {
    tables().versions.iter().copied()
}

pub fn resource(group: &str, version: &str, plural: &str) -> Option<&'static ResourceInfo> {
    resources().find(|info| info.plural == plural && info.group == group && info.version == version)
}

pub fn resource_by_kind(group: &str, version: &str, kind: &str) -> Option<&'static ResourceInfo> {
    resources().find(|info| info.kind == kind && info.group == group && info.version == version)
}

/// The type of any kind that may stand in a body: resources, lists, reviews, options, `Status`.
pub fn type_of_kind(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
    /// Registered in every group version.
    const EVERYWHERE: [&str; 7] = [
        "CreateOptions",
        "DeleteOptions",
        "GetOptions",
        "ListOptions",
        "PatchOptions",
        "UpdateOptions",
        "WatchEvent",
    ];
    const UNVERSIONED: [&str; 5] = [
        "APIGroup",
        "APIGroupList",
        "APIResourceList",
        "APIVersions",
        "Status",
    ];
    let in_package = |package: &str| {
        let name = compact_str::format_compact!("{package}.{kind}");
        TypeRef::by_name(&name).filter(|ty| ty.is_kind() || kind == "WatchEvent")
    };
    if (group, version) == ("meta.k8s.io", "v1")
        || EVERYWHERE.contains(&kind)
        || (group.is_empty() && UNVERSIONED.contains(&kind))
    {
        return in_package(META);
    }
    let info = group_versions().find(|info| info.group == group && info.version == version)?;
    in_package(info.package)
}

impl ResourceInfo {
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }
}

impl Subresource {
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }
}

impl GroupVersionInfo {
    /// The prefix of its types' names, such as `io.k8s.api.apps.v1`.
    pub(crate) fn package(&self) -> &'static str {
        self.package
    }

    /// `apps/v1`, or `v1` in the core group.
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

static TEXT: &str = include_str!("../tables/resources.txt");

/// Parsed once, on the heap: a table of pointers in the binary would be dirtied in every process.
fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(parse)
}

fn parse() -> Tables {
    let mut tables = Tables {
        versions: Vec::new(),
        resources: Vec::new(),
    };
    for line in TEXT.lines() {
        let words: Vec<&'static str> = line.split(' ').map(undash).collect();
        match words[..] {
            ["version", group, version, package] => {
                tables.versions.push(GroupVersionInfo {
                    group,
                    version,
                    package,
                });
            }
            ["resource", ..] => {
                let at = tables
                    .versions
                    .last()
                    .expect("a version line precedes its resources");
                tables.resources.push(parse_resource(*at, &words));
            }
            ["sub", name, group, version, kind, verbs] => {
                let info = tables
                    .resources
                    .last_mut()
                    .expect("a resource precedes its subresources");
                info.has_status |= name == "status";
                info.subresources.push(Subresource {
                    name,
                    group,
                    version,
                    kind,
                    verbs: list(verbs),
                });
            }
            _ => unreachable!("a line of the generated table: {line}"),
        }
    }
    tables
}

fn parse_resource(at: GroupVersionInfo, words: &[&'static str]) -> ResourceInfo {
    let kind = words[3];
    ResourceInfo {
        group: at.group,
        version: at.version,
        kind,
        plural: words[1],
        singular: words[2],
        namespaced: words[4] == "namespaced",
        verbs: list(words[5]),
        short_names: list(words[6]),
        categories: list(words[7]),
        subresources: Vec::new(),
        root: TypeRef::by_name(&format!("{}.{kind}", at.package)),
        storage: StorageKind {
            group: words[9],
            plural: words[10],
            version: words[11],
        },
        storage_version_hash: words[8],
        has_status: false,
    }
}

fn undash(word: &'static str) -> &'static str {
    if word == "-" { "" } else { word }
}

fn list(words: &'static str) -> Vec<&'static str> {
    words.split(',').filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_and_subresource_has_a_type() {
        for info in resources() {
            assert!(info.root.is_some(), "{}/{}", info.group, info.plural);
            for sub in &info.subresources {
                assert!(
                    type_of_kind(sub.group, sub.version, sub.kind).is_some(),
                    "{}/{}: {}",
                    info.plural,
                    sub.name,
                    sub.kind
                );
            }
            if info.has_verb("list") {
                assert!(type_of_kind(info.group, info.version, &format!("{}List", info.kind)).is_some());
            }
        }
    }

    #[test]
    fn deployments_are_described_as_upstream_does() {
        let info = resource("apps", "v1", "deployments").unwrap();
        assert_eq!(
            (info.kind, info.singular, info.namespaced, info.has_status),
            ("Deployment", "deployment", true, true)
        );
        assert_eq!(
            (info.short_names.as_slice(), info.categories.as_slice()),
            (&["deploy"][..], &["all"][..])
        );
        let scale = info.subresource("scale").unwrap();
        assert_eq!(
            (scale.group, scale.version, scale.kind),
            ("autoscaling", "v1", "Scale")
        );
        assert_eq!(resource_by_kind("apps", "v1", "Deployment"), Some(info));
    }

    #[test]
    fn two_views_of_one_storage_kind_name_the_same_storage() {
        let view = |group, version, plural| resource(group, version, plural).unwrap().storage;
        assert_eq!(view("", "v1", "events"), view("events.k8s.io", "v1", "events"));
        let old = view("autoscaling", "v1", "horizontalpodautoscalers");
        assert_eq!(old, view("autoscaling", "v2", "horizontalpodautoscalers"));
        assert_eq!(old.version, "v2");
    }

    #[test]
    fn options_are_kinds_of_every_group_version() {
        assert!(type_of_kind("apps", "v1", "DeleteOptions").is_some());
        assert!(type_of_kind("", "v1", "Status").is_some());
        assert!(type_of_kind("", "v1", "List").is_some());
        assert!(type_of_kind("", "v1", "PodSpec").is_none());
        assert!(type_of_kind("apps", "v1beta1", "Deployment").is_none());
    }
}
