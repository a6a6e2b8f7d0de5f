//! The resources that the simulation speaks of.

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
    services => "" "v1" "services",
    namespaces => "" "v1" "namespaces",
    deployments => "apps" "v1" "deployments",
    leases => "coordination.k8s.io" "v1" "leases",
}
