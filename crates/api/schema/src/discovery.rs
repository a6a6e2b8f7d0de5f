//! Discovery documents of the built-in kinds, aggregated (v2) and plain, as JSON.
//!
//! Built from the tables on request; a server keeps the bytes.

use cloudeck_machinery::{Map, Value, json, value};

use crate::resources::{GroupVersionInfo, ResourceInfo, Subresource, group_versions, resources};

/// The media type of the aggregated documents, exactly as clients compare it.
pub const AGGREGATED_CONTENT_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// `GET /api`, aggregated: the core group.
pub fn aggregated_core() -> Vec<u8> {
    aggregated(&[""])
}

/// `GET /apis`, aggregated: every named group.
pub fn aggregated_groups() -> Vec<u8> {
    aggregated(&group_names())
}

/// `GET /api`: the versions of the core group. `server_address` is `HOST:PORT`.
pub fn core_versions(server_address: &str) -> Vec<u8> {
    json::to_vec(&value!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": (server_address)}],
    }))
}

/// `GET /apis`: every named group.
pub fn groups() -> Vec<u8> {
    let groups: Vec<Value> = group_names().into_iter().map(group_value).collect();
    json::to_vec(&value!({"kind": "APIGroupList", "apiVersion": "v1", "groups": (groups)}))
}

/// `GET /apis/GROUP`.
pub fn group(name: &str) -> Option<Vec<u8>> {
    let name = group_names().into_iter().find(|known| *known == name)?;
    let mut group = group_value(name);
    group.set_at(&["kind"], "APIGroup");
    group.set_at(&["apiVersion"], "v1");
    Some(json::to_vec(&group))
}

/// `GET /api/VERSION` and `GET /apis/GROUP/VERSION`.
pub fn resource_list(group: &str, version: &str) -> Option<Vec<u8>> {
    let served = group_versions().find(|info| info.group == group && info.version == version)?;
    let mut entries = Vec::new();
    for info in resources_of(served) {
        entries.push(resource_entry(info));
        entries.extend(info.subresources.iter().map(|sub| subresource_entry(info, sub)));
    }
    let mut list = value!({
        "kind": "APIResourceList",
        "groupVersion": (served.api_version()),
        "resources": (entries),
    });
    if !group.is_empty() {
        list.set_at(&["apiVersion"], "v1");
    }
    Some(json::to_vec(&list))
}

/// The named groups, in upstream's order.
fn group_names() -> Vec<&'static str> {
    let mut names: Vec<_> = group_versions()
        .map(|info| info.group)
        .filter(|group| !group.is_empty())
        .collect();
    names.dedup();
    names
}

fn versions_of(group: &str) -> impl Iterator<Item = GroupVersionInfo> {
    group_versions().filter(move |info| info.group == group)
}

fn resources_of(served: GroupVersionInfo) -> impl Iterator<Item = &'static ResourceInfo> {
    resources().filter(move |info| info.group == served.group && info.version == served.version)
}

fn group_value(name: &str) -> Value {
    let versions: Vec<Value> = versions_of(name)
        .map(|info| value!({"groupVersion": (info.api_version()), "version": (info.version)}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    value!({"name": (name), "versions": (versions), "preferredVersion": (preferred)})
}

fn resource_entry(info: &ResourceInfo) -> Value {
    let mut entry = value!({
        "name": (info.plural),
        "singularName": (info.singular),
        "namespaced": (info.namespaced),
        "kind": (info.kind),
        "verbs": (strings(&info.verbs)),
    });
    set_unless_empty(&mut entry, "shortNames", &info.short_names);
    set_unless_empty(&mut entry, "categories", &info.categories);
    if !info.storage_version_hash.is_empty() {
        entry.set_at(&["storageVersionHash"], info.storage_version_hash);
    }
    entry
}

fn subresource_entry(info: &ResourceInfo, sub: &Subresource) -> Value {
    let mut entry = value!({
        "name": (format!("{}/{}", info.plural, sub.name)),
        "singularName": "",
        "namespaced": (info.namespaced),
        "kind": (sub.kind),
        "verbs": (strings(&sub.verbs)),
    });
    if !is_own(info, sub) {
        entry.set_at(&["group"], sub.group);
        entry.set_at(&["version"], sub.version);
    }
    entry
}

/// Kinds of the resource's own group version are named without it.
fn is_own(info: &ResourceInfo, sub: &Subresource) -> bool {
    sub.group == info.group && sub.version == info.version
}

fn aggregated(groups: &[&str]) -> Vec<u8> {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = versions_of(group).map(aggregated_version).collect();
            let mut metadata = Map::new();
            if !group.is_empty() {
                metadata.insert("name", Value::from(*group));
            }
            value!({"metadata": (metadata), "versions": (versions)})
        })
        .collect();
    json::to_vec(&value!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": (items),
    }))
}

fn aggregated_version(served: GroupVersionInfo) -> Value {
    let resources: Vec<Value> = resources_of(served).map(aggregated_resource).collect();
    value!({"version": (served.version), "resources": (resources), "freshness": "Current"})
}

fn aggregated_resource(info: &ResourceInfo) -> Value {
    let mut entry = value!({
        "resource": (info.plural),
        "responseKind": {"group": "", "version": "", "kind": (info.kind)},
        "scope": (if info.namespaced { "Namespaced" } else { "Cluster" }),
        "singularResource": (info.singular),
        "verbs": (strings(&info.verbs)),
    });
    set_unless_empty(&mut entry, "shortNames", &info.short_names);
    set_unless_empty(&mut entry, "categories", &info.categories);
    if !info.subresources.is_empty() {
        let subresources: Vec<Value> = info
            .subresources
            .iter()
            .map(|sub| aggregated_subresource(info, sub))
            .collect();
        entry.set_at(&["subresources"], subresources);
    }
    entry
}

fn aggregated_subresource(info: &ResourceInfo, sub: &Subresource) -> Value {
    let (group, version) = if is_own(info, sub) {
        ("", "")
    } else {
        (sub.group, sub.version)
    };
    value!({
        "subresource": (sub.name),
        "responseKind": {"group": (group), "version": (version), "kind": (sub.kind)},
        "verbs": (strings(&sub.verbs)),
    })
}

fn strings(words: &[&str]) -> Value {
    Value::Array(words.iter().map(|word| Value::from(*word)).collect())
}

fn set_unless_empty(entry: &mut Value, name: &str, words: &[&str]) {
    if !words.is_empty() {
        entry.set_at(&[name], strings(words));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aggregated_document_describes_deployments() {
        let document = json::parse(&aggregated_groups()).unwrap();
        let apps = document
            .items_at(&["items"])
            .iter()
            .find(|item| item.str_at(&["metadata", "name"]) == Some("apps"))
            .unwrap();
        let version = &apps.items_at(&["versions"])[0];
        assert_eq!(version.str_at(&["freshness"]), Some("Current"));
        let deployments = version
            .items_at(&["resources"])
            .iter()
            .find(|entry| entry.str_at(&["resource"]) == Some("deployments"))
            .unwrap();
        assert_eq!(
            deployments.items_at(&["subresources"])[0].to_string(),
            r#"{"responseKind":{"group":"autoscaling","kind":"Scale","version":"v1"},"subresource":"scale","verbs":["get","patch","update"]}"#
        );
    }

    #[test]
    fn the_preferred_version_of_autoscaling_is_its_second() {
        let group = json::parse(&group("autoscaling").unwrap()).unwrap();
        assert_eq!(
            group.to_string(),
            r#"{"apiVersion":"v1","kind":"APIGroup","name":"autoscaling","preferredVersion":{"groupVersion":"autoscaling/v2","version":"v2"},"versions":[{"groupVersion":"autoscaling/v2","version":"v2"},{"groupVersion":"autoscaling/v1","version":"v1"}]}"#
        );
        assert!(super::group("").is_none());
    }

    #[test]
    fn plain_lists_name_subresources_after_their_resource() {
        let list = json::parse(&resource_list("", "v1").unwrap()).unwrap();
        let entries = list.items_at(&["resources"]);
        let eviction = entries
            .iter()
            .find(|entry| entry.str_at(&["name"]) == Some("pods/eviction"))
            .unwrap();
        assert_eq!(
            eviction.to_string(),
            r#"{"group":"policy","kind":"Eviction","name":"pods/eviction","namespaced":true,"singularName":"","verbs":["create"],"version":"v1"}"#
        );
        assert!(list.get("apiVersion").is_none());
        assert!(resource_list("apps", "v1beta1").is_none());
    }
}
