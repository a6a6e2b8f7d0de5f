//! The resources that controllers watch and write.

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
    endpoints => "" "v1" "endpoints",
    events => "" "v1" "events",
    namespaces => "" "v1" "namespaces",
    config_maps => "" "v1" "configmaps",
    resource_quotas => "" "v1" "resourcequotas",
    service_accounts => "" "v1" "serviceaccounts",
    replica_sets => "apps" "v1" "replicasets",
    deployments => "apps" "v1" "deployments",
    disruption_budgets => "policy" "v1" "poddisruptionbudgets",
    endpoint_slices => "discovery.k8s.io" "v1" "endpointslices",
    service_cidrs => "networking.k8s.io" "v1" "servicecidrs",
    leases => "coordination.k8s.io" "v1" "leases",
    cluster_roles => "rbac.authorization.k8s.io" "v1" "clusterroles",
}
