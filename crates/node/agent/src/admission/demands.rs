//! What a pod may not ask of this node, whatever room there is: another operating system, kernel settings that are not
//! a pod's own, enforcement that the machine does not have. Pure.
//!
//! Source: `pkg/kubelet/sysctl`, `pkg/security/apparmor`, `pkg/kubelet/lifecycle`.

use cloudeck_kinds::sysctl;
use k8s_openapi::api::core::v1::{AppArmorProfile, PodSpec};

use crate::pod::decide::all_containers;
use crate::pod::memo::Rejection;

/// The first demand that cannot be met.
pub(super) fn refused(spec: &PodSpec) -> Option<Rejection> {
    operating_system(spec)
        .or_else(|| sysctls(spec))
        .or_else(|| app_armor(spec))
        .or_else(|| features(spec))
}

fn operating_system(spec: &PodSpec) -> Option<Rejection> {
    let other = spec.os.as_ref().is_some_and(|os| os.name != "linux");
    other.then(|| {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        rejection("PodOSNotSupported", message)
    })
}

/// A setting's name with dots between its parts, however the pod writes it: the first separator tells.
///
/// Source: `component-helpers/node/util/sysctl` (`NormalizeName`).
pub(crate) fn normal_sysctl(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.')) {
        return name.to_owned();
    }
    name.chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

fn sysctls(spec: &PodSpec) -> Option<Rejection> {
    let wanted = spec.security_context.as_ref()?.sysctls.as_ref()?;
    wanted.iter().find_map(|sysctl| {
        let name = normal_sysctl(&sysctl.name);
        let why = if !sysctl::SAFE.contains(&name.as_str()) {
            format!("\"{name}\" not allowlisted")
        } else if name.starts_with("net.") && spec.host_network == Some(true) {
            format!("\"{name}\" not allowed with host net enabled")
        } else if name.starts_with("kernel.") && spec.host_ipc == Some(true) {
            format!("\"{name}\" not allowed with host ipc enabled")
        } else {
            return None;
        };
        Some(rejection("SysctlForbidden", &format!("forbidden sysctl: {why}")))
    })
}

fn app_armor(spec: &PodSpec) -> Option<Rejection> {
    let confined = |profile: Option<&AppArmorProfile>| profile.is_some_and(|p| p.type_ != "Unconfined");
    let shared = spec
        .security_context
        .as_ref()
        .and_then(|s| s.app_armor_profile.as_ref());
    let wanted = confined(shared)
        || all_containers(spec).any(|container| {
            let own = container.security_context.as_ref();
            confined(own.and_then(|s| s.app_armor_profile.as_ref()))
        });
    wanted.then(|| {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        rejection("AppArmor", message)
    })
}

/// Features of the API level that this node does not have.
fn features(spec: &PodSpec) -> Option<Rejection> {
    let restarts_all = all_containers(spec)
        .flat_map(|c| c.restart_policy_rules.iter().flatten())
        .any(|rule| rule.action == "RestartAllContainers");
    let missing = if spec.host_users == Some(false) {
        "UserNamespacesSupport"
    } else if spec
        .resource_claims
        .as_ref()
        .is_some_and(|claims| !claims.is_empty())
    {
        "DynamicResourceAllocation"
    } else if restarts_all {
        "RestartAllContainersOnContainerExits"
    } else {
        return None;
    };
    let message = format!("Pod requires node features that are not available: {missing}");
    Some(rejection("PodFeatureUnsupported", &message))
}

fn rejection(reason: &'static str, message: &str) -> Rejection {
    Rejection {
        reason,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(spec: serde_json::Value) -> Option<(&'static str, String)> {
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = serde_json::json!([]);
        }
        refused(&serde_json::from_value(spec).unwrap()).map(|r| (r.reason, r.message))
    }

    fn sysctl(name: &str) -> serde_json::Value {
        serde_json::json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}})
    }

    #[test]
    fn only_safe_settings_of_the_pods_own_namespaces_are_allowed() {
        assert_eq!(said(sysctl("net.ipv4.tcp_syncookies")), None);
        assert_eq!(said(sysctl("net/ipv4/tcp_syncookies")), None);
        for name in ["net.core.somaxconn", "kernel.msgmax", "vm.swappiness"] {
            let message = format!("forbidden sysctl: \"{name}\" not allowlisted");
            assert_eq!(said(sysctl(name)), Some(("SysctlForbidden", message)));
        }
        let mut spec = sysctl("kernel.shm_rmid_forced");
        spec["hostIPC"] = true.into();
        let message = "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled";
        assert_eq!(said(spec), Some(("SysctlForbidden", message.to_owned())));
    }

    #[test]
    fn slashes_and_dots_change_places_as_upstream_reads_them() {
        assert_eq!(normal_sysctl("net/ipv4/conf/eth0.1/x"), "net.ipv4.conf.eth0/1.x");
        assert_eq!(normal_sysctl("net.ipv4.conf.eth0/1.x"), "net.ipv4.conf.eth0/1.x");
    }

    #[test]
    fn what_cannot_be_enforced_is_refused_by_name() {
        let json = serde_json::json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
        assert_eq!(said(json).map(|r| r.0), Some("AppArmor"));
        let json = serde_json::json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}});
        assert_eq!(said(json), None);
        let users = said(serde_json::json!({"hostUsers": false})).unwrap();
        let message = "Pod requires node features that are not available: UserNamespacesSupport";
        assert_eq!(users, ("PodFeatureUnsupported", message.to_owned()));
        let claims = said(serde_json::json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}));
        assert_eq!(claims.map(|r| r.0), Some("PodFeatureUnsupported"));
        let os = said(serde_json::json!({"os": {"name": "windows"}})).map(|r| r.0);
        assert_eq!(os, Some("PodOSNotSupported"));
    }
}
