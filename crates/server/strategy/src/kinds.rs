//! Which strategy belongs to which kind.

use crate::{
    Strategy, cluster, config, listing, network, node, pod, rbac, scaling, service, storage, workload,
};

/// The strategy of a kind; [`Strategy::GENERIC`] for those without rules of their own.
pub fn strategy(group: &str, kind: &str) -> &'static Strategy {
    match group {
        "" => core(kind),
        "apps" => apps(kind),
        "rbac.authorization.k8s.io" => authorization(kind),
        _ => others(group, kind),
    }
}

fn core(kind: &str) -> &'static Strategy {
    match kind {
        "Pod" => &pod::POD,
        "PodTemplate" => &pod::POD_TEMPLATE,
        "Service" => &service::SERVICE,
        "Endpoints" => &network::endpoints::ENDPOINTS,
        "ConfigMap" => &config::CONFIG_MAP,
        "Secret" => &config::SECRET,
        "Namespace" => &cluster::NAMESPACE,
        "Node" => &node::NODE,
        "ServiceAccount" => &cluster::SERVICE_ACCOUNT,
        "Event" => &cluster::event::EVENT,
        "ReplicationController" => &workload::REPLICATION_CONTROLLER,
        "PersistentVolume" => &storage::PERSISTENT_VOLUME,
        "PersistentVolumeClaim" => &storage::PERSISTENT_VOLUME_CLAIM,
        "ComponentStatus" => &listing::COMPONENT_STATUS,
        "LimitRange" => &scaling::LIMIT_RANGE,
        "ResourceQuota" => &scaling::RESOURCE_QUOTA,
        _ => &Strategy::GENERIC,
    }
}

fn apps(kind: &str) -> &'static Strategy {
    match kind {
        "Deployment" => &workload::DEPLOYMENT,
        "ReplicaSet" => &workload::REPLICA_SET,
        "StatefulSet" => &workload::STATEFUL_SET,
        "DaemonSet" => &workload::DAEMON_SET,
        "ControllerRevision" => &workload::CONTROLLER_REVISION,
        _ => &Strategy::GENERIC,
    }
}

fn authorization(kind: &str) -> &'static Strategy {
    match kind {
        "Role" => &rbac::ROLE,
        "ClusterRole" => &rbac::CLUSTER_ROLE,
        "RoleBinding" => &rbac::ROLE_BINDING,
        "ClusterRoleBinding" => &rbac::CLUSTER_ROLE_BINDING,
        _ => &Strategy::GENERIC,
    }
}

fn others(group: &str, kind: &str) -> &'static Strategy {
    match (group, kind) {
        ("apiregistration.k8s.io", "APIService") => &cluster::api_service::API_SERVICE,
        ("batch", "Job") => &workload::JOB,
        ("batch", "CronJob") => &workload::CRON_JOB,
        ("autoscaling", "HorizontalPodAutoscaler") => &scaling::AUTOSCALER,
        ("policy", "PodDisruptionBudget") => &scaling::DISRUPTION_BUDGET,
        ("networking.k8s.io", "Ingress") => &network::INGRESS,
        ("networking.k8s.io", "IngressClass") => &network::INGRESS_CLASS,
        ("networking.k8s.io", "NetworkPolicy") => &network::NETWORK_POLICY,
        ("discovery.k8s.io", "EndpointSlice") => &network::slice::ENDPOINT_SLICE,
        ("storage.k8s.io", "StorageClass") => &storage::STORAGE_CLASS,
        ("storage.k8s.io", "CSIDriver") => &storage::CSI_DRIVER,
        ("coordination.k8s.io", "Lease") => &cluster::LEASE,
        ("scheduling.k8s.io", "PriorityClass") => &cluster::PRIORITY_CLASS,
        ("events.k8s.io", "Event") => &cluster::event::EVENT,
        ("certificates.k8s.io", "CertificateSigningRequest") => &cluster::SIGNING_REQUEST,
        _ => listing::strategy(group, kind).unwrap_or(&Strategy::GENERIC),
    }
}
