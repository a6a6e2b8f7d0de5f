//! Discovery facts: which group versions and resources are served, into `resources.txt`.
//!
//! The source is upstream's own discovery dump, taken with every version enabled. kube-apiserver enables the stable
//! versions only, and every feature gate in front of a resource of a stable version is on by default in 1.37.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::sources::{Modules, Package};

/// The served group versions, in upstream's order of priority, each with its resources.
pub(super) struct Discovery(Vec<GroupVersion>);

pub(super) struct GroupVersion {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resource {
    /// `deployments` or `deployments/scale`.
    pub(super) name: String,
    pub(super) singular_name: String,
    pub(super) namespaced: bool,
    #[serde(default)]
    pub(super) group: String,
    #[serde(default)]
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) verbs: Vec<String>,
    #[serde(default)]
    pub(super) short_names: Vec<String>,
    #[serde(default)]
    pub(super) categories: Vec<String>,
    #[serde(default)]
    pub(super) storage_version_hash: String,
}

impl Discovery {
    pub(super) fn group_versions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|gv| (gv.group.as_str(), gv.version.as_str()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &GroupVersion> {
        self.0.iter()
    }
}

#[derive(Deserialize)]
struct ApiResourceList {
    resources: Vec<Resource>,
}

pub(super) fn read_discovery(modules: &Modules) -> Result<Discovery> {
    #[derive(Deserialize)]
    struct Groups {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        name: String,
        versions: Vec<Version>,
    }
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let folder = modules.discovery();
    let mut served = vec![GroupVersion {
        group: String::new(),
        version: "v1".to_owned(),
        resources: read_json::<ApiResourceList>(&folder.join("api__v1.json"))?.resources,
    }];
    let groups: Groups = read_json(&folder.join("apis.json"))?;
    for group in groups.groups {
        for Version { version } in group.versions {
            if !is_stable(&version) {
                continue;
            }
            let file = folder.join(format!("apis__{}__{version}.json", group.name));
            let resources = read_json::<ApiResourceList>(&file)?.resources;
            served.push(GroupVersion {
                group: group.name.clone(),
                version,
                resources,
            });
        }
    }
    Ok(Discovery(served))
}

fn is_stable(version: &str) -> bool {
    version
        .trim_start_matches('v')
        .bytes()
        .all(|byte| byte.is_ascii_digit())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))
}

/// A group and a plural.
type Name<'a> = (&'a str, &'a str);

/// Kinds that several resources show: the view and the storage kind.
const STORED_ELSEWHERE: [(Name<'_>, Name<'_>); 1] = [(("events.k8s.io", "events"), ("", "events"))];

/// Where a resource's objects are kept. Of several versions of one group the first in priority is stored.
fn storage_of<'a>(group: &'a str, plural: &'a str) -> Name<'a> {
    STORED_ELSEWHERE
        .iter()
        .find(|(view, _)| *view == (group, plural))
        .map_or((group, plural), |(_, storage)| *storage)
}

/// The committed text: one line per group version, resource and subresource; fields separated by single spaces, `-`
/// for an empty one.
pub(super) fn write(discovery: &Discovery, packages: &[Package]) -> Result<String> {
    let models: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| (package.path.as_str(), package.model.as_str()))
        .collect();
    let mut out = String::new();
    let mut stored_version: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for gv in discovery.iter() {
        for resource in &gv.resources {
            stored_version
                .entry((&gv.group, &resource.name))
                .or_insert(&gv.version);
        }
    }
    for gv in discovery.iter() {
        let import = super::sources::import_path(&gv.group, &gv.version)?;
        writeln!(
            out,
            "version {} {} {}",
            dash(&gv.group),
            gv.version,
            models[import.as_str()]
        )?;
        for resource in &gv.resources {
            write_resource(&mut out, gv, resource, &stored_version)?;
        }
    }
    Ok(out)
}

fn write_resource(
    out: &mut String,
    gv: &GroupVersion,
    resource: &Resource,
    stored_version: &BTreeMap<(&str, &str), &str>,
) -> Result<()> {
    let verbs = resource.verbs.join(",");
    if let Some((_, sub)) = resource.name.split_once('/') {
        let (group, version) = if resource.version.is_empty() {
            (&gv.group, &gv.version)
        } else {
            (&resource.group, &resource.version)
        };
        writeln!(
            out,
            "sub {sub} {} {version} {} {verbs}",
            dash(group),
            resource.kind
        )?;
        return Ok(());
    }
    let storage = storage_of(&gv.group, &resource.name);
    writeln!(
        out,
        "resource {} {} {} {} {verbs} {} {} {} {} {} {}",
        resource.name,
        resource.singular_name,
        resource.kind,
        if resource.namespaced {
            "namespaced"
        } else {
            "cluster"
        },
        dash(&resource.short_names.join(",")),
        dash(&resource.categories.join(",")),
        dash(&resource.storage_version_hash),
        dash(storage.0),
        storage.1,
        stored_version[&storage],
    )?;
    Ok(())
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
