//! Security contexts: the container's over the pod's.

use std::path::Path;

use cloudeck_runtime::{Capabilities, SeccompProfile, Security, User};
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// A container that must not run as root would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NonRootError {
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    RunAsRoot { pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageRunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    NonNumericUser {
        user: String,
        pod: String,
        container: String,
    },
}

/// Checks `runAsNonRoot` against `runAsUser` and the image's user. `pod` is `name_namespace(uid)`, as upstream prints it.
pub fn check_non_root(
    spec: &PodSpec,
    container: &Container,
    image_user: &str,
    pod: &str,
) -> Result<(), NonRootError> {
    let own = container.security_context.as_ref();
    let shared = spec.security_context.as_ref();
    let non_root = own
        .and_then(|s| s.run_as_non_root)
        .or_else(|| shared.and_then(|s| s.run_as_non_root));
    if non_root != Some(true) {
        return Ok(());
    }
    let (pod, name) = (pod.to_owned(), container.name.clone());
    if let Some(user) = run_as_user(spec, container) {
        return if user == 0 {
            Err(NonRootError::RunAsRoot { pod, container: name })
        } else {
            Ok(())
        };
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => Err(NonRootError::ImageRunsAsRoot { pod, container: name }),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => Err(NonRootError::ImageRunsAsRoot { pod, container: name }),
        Err(_) => Err(NonRootError::NonNumericUser {
            user: user.to_owned(),
            pod,
            container: name,
        }),
    }
}

fn run_as_user(spec: &PodSpec, container: &Container) -> Option<i64> {
    let own = container.security_context.as_ref().and_then(|s| s.run_as_user);
    own.or_else(|| spec.security_context.as_ref().and_then(|s| s.run_as_user))
}

/// Whom the container runs as.
pub(super) fn user(spec: &PodSpec, container: &Container, image_user: &str) -> User {
    let shared = spec.security_context.as_ref();
    let own_group = container.security_context.as_ref().and_then(|s| s.run_as_group);
    let group = own_group.or_else(|| shared.and_then(|s| s.run_as_group));
    let mut additional: Vec<u32> = shared
        .and_then(|s| s.supplemental_groups.as_ref())
        .into_iter()
        .flatten()
        .map(|gid| *gid as u32)
        .collect();
    additional.extend(shared.and_then(|s| s.fs_group).map(|gid| gid as u32));
    let run_as = run_as_user(spec, container);
    // A user by number alone has the primary group root, as container runtimes have it.
    let user = run_as.map_or_else(|| image_user.to_owned(), |uid| uid.to_string());
    User {
        user,
        gid: group.map(|gid| gid as u32),
        additional_gids: additional,
        strict_groups: shared.and_then(|s| s.supplemental_groups_policy.as_deref()) == Some("Strict"),
    }
}

/// What the container may do. Profiles of the node's own lie below `profiles`.
pub(super) fn security(spec: &PodSpec, container: &Container, profiles: &Path) -> Security {
    let own = container.security_context.as_ref();
    let privileged = own.and_then(|s| s.privileged) == Some(true);
    let capabilities = own.and_then(|s| s.capabilities.as_ref());
    let own_profile = own.and_then(|s| s.seccomp_profile.as_ref());
    let profile = own_profile.or_else(|| {
        spec.security_context
            .as_ref()
            .and_then(|s| s.seccomp_profile.as_ref())
    });
    let seccomp = match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
        Some(("Unconfined", _)) => SeccompProfile::Unconfined,
        Some(("Localhost", Some(path))) => SeccompProfile::Localhost(profiles.join(path)),
        _ if privileged => SeccompProfile::Unconfined,
        // Secure by default: a pod that says nothing gets the runtime's profile (upstream needs `--seccomp-default`).
        _ => SeccompProfile::RuntimeDefault,
    };
    let unmasked = own.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked");
    let escalation = own.and_then(|s| s.allow_privilege_escalation).unwrap_or(true);
    Security {
        privileged,
        capabilities: Capabilities {
            add: capabilities.and_then(|c| c.add.clone()).unwrap_or_default(),
            drop: capabilities.and_then(|c| c.drop.clone()).unwrap_or_default(),
        },
        seccomp,
        no_new_privileges: !escalation && !privileged,
        masked_paths: unmasked.then(Vec::new),
        readonly_paths: unmasked.then(Vec::new),
    }
}
