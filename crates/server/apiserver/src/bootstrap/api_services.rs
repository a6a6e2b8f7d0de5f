//! An APIService for each group version that is served, as upstream's aggregator registers them at its start.
//!
//! Source: `cmd/kube-apiserver/app/aggregator.go`, `pkg/controlplane/apiserver/aggregator.go`.

use cloudeck_machinery::{GroupVersionResource, Value, value};

/// Where groups stand in lists, highest first; a version says where it stands within its group.
const PRIORITIES: [(&str, &str, i64, i64); 22] = [
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v2", 17500, 30),
    ("autoscaling", "v1", 17500, 15),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 21),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("storagemigration.k8s.io", "v1", 15800, 15),
];

/// What is registered, with its resource.
pub(super) fn objects() -> Vec<(GroupVersionResource, Value)> {
    let resource = GroupVersionResource::new("apiregistration.k8s.io", "v1", "apiservices");
    let services = PRIORITIES
        .iter()
        .map(|(group, version, group_priority, version_priority)| {
            let mut service = value!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {
                    "name": (format!("{version}.{group}")),
                    "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
                },
                "spec": {
                    "version": (*version),
                    "groupPriorityMinimum": (*group_priority), "versionPriority": (*version_priority)
                }
            });
            if !group.is_empty() {
                service.set_at(&["spec", "group"], *group);
            }
            (resource.clone(), service)
        });
    services.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_group_version_has_its_place() {
        for info in cloudeck_schema::group_versions() {
            let found = PRIORITIES
                .iter()
                .any(|(group, version, _, _)| *group == info.group && *version == info.version);
            // The aggregator does not register itself.
            assert_ne!(
                found,
                info.group == "apiregistration.k8s.io",
                "{}/{}",
                info.group,
                info.version
            );
        }
    }
}
