//! The resources that these controllers name.

use cloudeck_machinery::GroupVersionResource;

macro_rules! resources {
    ($($name:ident => $group:literal $version:literal $plural:literal),* $(,)?) => {
        $(
            pub(crate) fn $name() -> GroupVersionResource {
                GroupVersionResource::new($group, $version, $plural)
            }
        )*
    };
}

resources! {
    pods => "" "v1" "pods",
    nodes => "" "v1" "nodes",
    events => "" "v1" "events",
    namespaces => "" "v1" "namespaces",
    leases => "coordination.k8s.io" "v1" "leases",
    cluster_roles => "rbac.authorization.k8s.io" "v1" "clusterroles",
}
